"""The runtime of a Lambda function: settings, telemetry, IAM authentication, SnapStart."""
