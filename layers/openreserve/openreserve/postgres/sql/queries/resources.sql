-- set_stock: A procedure, because it ends transactions to reclaim stock.
CALL openreserve.set_stock(
    %(resource_id)s, %(total_stock)s::bigint, %(expected_version)s::bigint,
    %(reclaim_batch_size)s::integer, NULL, NULL, NULL);

-- set_stock_of_many: A procedure, because each row is a transaction of its own.
CALL openreserve.set_stock_of_many(
    %(resource_ids)s::text[], %(totals)s::bigint[], %(reclaim_batch_size)s::integer, NULL, NULL);

-- adjust_stock: A procedure, because it ends transactions to reclaim stock.
CALL openreserve.adjust_stock(
    %(key)s, %(resource_id)s, %(difference)s::bigint, %(reason)s, %(total_max)s::bigint,
    %(reclaim_batch_size)s::integer, NULL, NULL, NULL, NULL);

-- find_resource: Through the view, which applies the deadline rule.
SELECT * FROM openreserve.resources_now WHERE resource_id = %(resource_id)s;

-- list_resources: A keyset, not an OFFSET: the millionth page costs what the first one costs. `^@`,
-- starts with, is a range of the primary key, because that sorts bytewise.
SELECT *
  FROM openreserve.resources_now
 WHERE resource_id ^@ %(prefix)s
   AND resource_id > %(after)s
 ORDER BY resource_id
 LIMIT %(limit)s;
