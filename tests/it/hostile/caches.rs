//! The cache may say where to look, never that something is there.
