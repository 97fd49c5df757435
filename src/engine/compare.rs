//! Compares two sorted streams.
