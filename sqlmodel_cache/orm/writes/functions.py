"""SQL functions that databases bring along and that write no rows.

Any other function that a text calls may be one of the user's own, and write. Beside the names of
PostgreSQL, MariaDB, MySQL, SQLite and SQL Server stand those that sqlglot has for some of them.
"""

from __future__ import annotations

import re

_PATTERNS = re.compile(
    r"pg_(?:try_)?advisory_(?:xact_)?(?:lock|unlock)(?:_shared|_all)?|pg_[a-z_]*(?:size|pretty)"
    r"|pg_(?:backend_pid|sleep|notify|typeof|is_in_recovery|current_xact_id|current_snapshot"
    r"|blocking_pids|get_[a-z]+|postmaster_start_time|encoding_to_char|[a-z]+_is_visible)"
    r"|st_[a-z0-9]+"  # PostGIS
)
_WORDS = """
    abs acos acosh add_months age all and any any_value array array_agg array_append array_cat
    array_concat array_contained_by array_contains array_contains_all array_dims array_fill
    array_first array_last array_length array_lower array_max array_min array_ndims
    array_overlaps array_position array_positions array_prepend array_remove array_replace
    array_size array_sum array_to_json array_to_string array_to_tsvector array_upper ascii asin
    asinh at_time_zone atan atan2 atanh avg between bin binary bit_and bit_count bit_length
    bit_or bit_xor bm25 bool_and bool_or btrim cardinality case cast cbrt ceil ceiling changes
    char char_length character_length charindex choose chr clock_timestamp coalesce collate
    concat concat_ws connection_id contains conv convert convert_tz corr cos cosh cot count
    count_big count_if covar_pop covar_samp crc32 cume_dist curdate current_catalog
    current_database current_date current_datetime current_role current_schema current_schemas
    current_setting current_time current_timestamp current_timestamp_l_t_z current_timezone
    current_user currval curtime database date date_add date_bin date_diff date_format
    date_from_parts date_part date_str_to_date date_sub date_trunc dateadd datediff
    datefromparts datename datepart datetime day dayname dayofmonth dayofweek dayofyear db_name
    decode degrees dense_rank div elt encode ends_with eomonth every exists exp explode
    exploding_generate_series extract factorial field find_in_set first first_value floor
    format format_type found_rows from_base from_base64 from_days from_unixtime gcd
    gen_random_uuid generate_series generate_subscripts generate_uuid getdate glob greatest
    group_array group_concat grouping has_any_column_privilege has_column_privilege
    has_database_privilege has_foreign_data_wrapper_privilege has_function_privilege
    has_language_privilege has_parameter_privilege has_schema_privilege has_sequence_privilege
    has_server_privilege has_table_privilege has_tablespace_privilege has_type_privilege hex
    highlight host hour if ifnull iif ilike inet_aton inet_client_addr inet_client_port
    inet_ntoa inet_server_addr inet_server_port initcap insert instr interval is_null isdate
    isfinite isjson isnull isnumeric iso_week json json_agg json_array json_array_append
    json_array_contains json_array_element json_array_element_text json_array_elements
    json_array_elements_text json_array_insert json_array_length json_arrayagg json_build_array
    json_build_object json_compact json_contains json_contains_path json_depth json_detailed
    json_each json_each_text json_equals json_exists json_extract json_extract_array
    json_extract_path json_extract_path_text json_extract_scalar json_group_array
    json_group_object json_insert json_keys json_length json_loose json_merge json_merge_patch
    json_merge_preserve json_object json_object_agg json_object_field json_object_field_text
    json_object_keys json_objectagg json_overlaps json_patch json_populate_record
    json_populate_recordset json_pretty json_query json_quote json_remove json_replace
    json_search json_set json_strip_nulls json_to_record json_to_recordset json_to_tsvector
    json_type json_typeof json_unquote json_valid json_value jsonb jsonb_agg
    jsonb_array_element jsonb_array_element_text jsonb_array_elements jsonb_array_elements_text
    jsonb_array_length jsonb_build_array jsonb_build_object jsonb_concat jsonb_contains
    jsonb_delete jsonb_delete_path jsonb_each jsonb_each_text jsonb_exists jsonb_exists_all
    jsonb_exists_any jsonb_extract jsonb_extract_path jsonb_extract_path_text
    jsonb_extract_scalar jsonb_insert jsonb_object jsonb_object_agg jsonb_object_field
    jsonb_object_field_text jsonb_object_keys jsonb_path_exists jsonb_path_exists_opr
    jsonb_path_exists_tz jsonb_path_match jsonb_path_match_opr jsonb_path_match_tz
    jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz jsonb_path_query_first
    jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record
    jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls
    jsonb_to_record jsonb_to_recordset jsonb_to_tsvector jsonb_typeof julianday justify_days
    justify_hours justify_interval lag last last_day last_insert_id last_insert_rowid
    last_value lastval lcase lcm lead least left len length like like_any likelihood likely ln
    localtime localtimestamp locate log log10 log2 lower lpad ltrim make_date make_interval
    make_set make_time make_timestamp make_timestamptz makedate maketime masklen max md5 median
    merge_action microsecond mid min minute mod mode month monthname name_const network newid
    next_value_for nextval now nth_value ntile nullif num_nonnulls num_nulls nvl nvl2 object_id
    oct octet_length or ord overlaps overlay parse_json patindex percent_rank percentile_cont
    percentile_disc phraseto_tsquery pi plainto_tsquery position pow power printf quantile
    quarter quote quote_ident quote_literal quote_nullable quotename radians rand random
    range_agg rank regexp regexp_count regexp_extract regexp_extract_all regexp_i_like
    regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split
    regexp_split_to_array regexp_split_to_table regexp_substr regtype repeat replace reverse
    right round row row_count row_number row_to_json rowcount rpad rtreecheck rtrim safe_cast
    schema scope_identity sec_to_time second session_user set_config setseed setval sha sha1
    sha2 sha224 sha256 sha384 sha512 sign similarity sin sinh snippet soundex space split_part
    sqlite_version sqrt starts_with statement_timestamp stddev stddev_pop stddev_samp
    str_position str_to_date str_to_time str_to_unix strftime string string_agg string_to_array
    strpos struct stuff subdate substr substring substring_index subtime sum switchoffset
    sysdate sysdatetime system_user sysutcdatetime tan tanh time time_add time_diff time_format
    time_str_to_time time_sub time_to_sec time_to_str time_to_unix time_trunc timediff
    timeofday timestamp timestamp_add timestamp_diff timestamp_from_parts timestamp_sub
    timestamp_trunc timestampadd timestampdiff timestampfromparts timezone to_ascii to_base32
    to_base64 to_char to_date to_days to_hex to_json to_jsonb to_number to_seconds to_timestamp
    to_tsquery to_tsvector total total_changes transaction_timestamp translate trim trim_array
    trunc truncate try_cast try_convert ts_debug ts_delete ts_filter ts_headline ts_lexize
    ts_or_di_to_di ts_or_ds_add ts_or_ds_diff ts_or_ds_to_date ts_or_ds_to_date_str
    ts_or_ds_to_datetime ts_or_ds_to_time ts_or_ds_to_timestamp ts_parse ts_rank ts_rank_cd
    ts_token_type tsvector_concat tsvector_to_array txid_current txid_current_if_assigned
    txid_current_snapshot txid_snapshot_xip txid_snapshot_xmax txid_snapshot_xmin
    txid_visible_in_snapshot typeof ucase unhex unicode unistr unix_epoch unix_seconds
    unix_to_time unixepoch unlikely unnest upper user user_id utc_date utc_time utc_timestamp
    uuid uuid_generate_v1 uuid_generate_v4 uuid_string uuidv4 uuidv7 values var_pop var_samp
    variance version websearch_to_tsquery week weekday weekofyear width_bucket word_similarity
    xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document xor year yearweek
    zeroblob match_against get_lock release_lock is_free_lock is_used_lock release_all_locks sleep
"""
_NAMES = frozenset(_WORDS.split())


def is_harmless(name: str) -> bool:
    """Tell whether the function `name`, in lower case, writes no rows."""
    return name in _NAMES or _PATTERNS.fullmatch(name) is not None
