-- Writes an event for each item of a reservation that has a new status.
CREATE OR REPLACE FUNCTION openreserve.write_reservation_events() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO openreserve.events (type, resource_id, value, tokens)
    SELECT ('RESERVATION_' || NEW.status)::openreserve.event_type,
           i.resource_id, i.quantity, ARRAY[NEW.token]
      FROM openreserve.reservation_items AS i
     WHERE i.token = NEW.token
     ORDER BY i.resource_id;
    RETURN NULL;
END
$$;

-- Enabled only with RESERVATION_EVENTS=1, because otherwise every reserve would pay for it: the
-- migration sets that after this file. A change of this file waits for all writers of reservations,
-- so this file has nothing else.
CREATE OR REPLACE TRIGGER reservations_write_events
    AFTER INSERT OR UPDATE OF status ON openreserve.reservations
    FOR EACH ROW EXECUTE FUNCTION openreserve.write_reservation_events();
