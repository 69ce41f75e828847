//! Tests of the value log.
