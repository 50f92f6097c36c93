-- Prerequisites that a DBA would create: the owner of the schema, not a superuser, and the database.
CREATE ROLE openreserve_owner LOGIN CREATEROLE;
CREATE DATABASE openreserve OWNER openreserve_owner;
