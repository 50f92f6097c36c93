-- What a DBA would have made: the owner of the schema, who is no superuser, and the database.
CREATE ROLE openreserve_owner LOGIN CREATEROLE;
CREATE DATABASE openreserve OWNER openreserve_owner;
