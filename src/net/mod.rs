//! Floor 1: clients of protocols that sources, targets and backends share.
//!
//! | file | what |
//! |---|---|
//! | [`address`] | what a person types to name a place on another machine |

pub mod address;
