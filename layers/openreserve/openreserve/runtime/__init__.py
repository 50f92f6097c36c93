"""What a Lambda function runs on: settings, telemetry, IAM authentication, SnapStart."""
