"""HTTP requests and responses in the format of API Gateway (payload version 2.0)."""
