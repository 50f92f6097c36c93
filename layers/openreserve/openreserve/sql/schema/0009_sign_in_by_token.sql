-- On RDS, openreserve_app signs in with a token of its function's role instead of a password, also
-- through a proxy that passes it on ("end-to-end IAM"). RDS tells by the role rds_iam who does.
-- Elsewhere there is no such role, and nothing to do. Whoever wants passwords on RDS revokes it.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam') THEN
        GRANT rds_iam TO openreserve_app;
    END IF;
END
$$;
