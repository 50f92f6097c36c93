-- reserve: One call, because no row lock may be held across a round trip.
CALL openreserve.reserve(
    %(key)s, %(hash)s, %(token)s, %(resource_ids)s::text[], %(quantities)s::integer[],
    %(ttl_seconds)s::bigint, %(ttl_seconds_max)s::integer, %(reclaim_batch_size)s::integer,
    NULL, NULL, NULL, NULL, NULL, NULL);

-- commit: A function, because it is one transaction. A repeat reads the same reservation.
SELECT * FROM openreserve.commit(%(token)s);

-- reacquire: A procedure, because it ends transactions to reclaim stock.
CALL openreserve.reacquire(
    %(token)s, %(reclaim_batch_size)s::integer, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- release: A function, because it is one transaction. A repeat reads the same reservation.
SELECT * FROM openreserve.release(%(token)s);

-- set_stock: A procedure, because it ends transactions to reclaim stock.
CALL openreserve.set_stock(
    %(resource_id)s, %(total_stock)s::bigint, %(expected_version)s::bigint,
    %(reclaim_batch_size)s::integer, NULL, NULL, NULL);
