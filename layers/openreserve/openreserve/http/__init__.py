"""HTTP in and out, as API Gateway delivers and expects it."""
