"""Certificate authorities of AWS services. Written by `make certificates`.

amazon-roots.pem: the roots of Amazon Trust Services, for RDS Proxy and ElastiCache.
rds-global.pem: the authorities of RDS in all regions, for direct connections.
"""

from pathlib import Path

AMAZON_ROOTS = Path(__file__).with_name("amazon-roots.pem")
RDS_GLOBAL = Path(__file__).with_name("rds-global.pem")
