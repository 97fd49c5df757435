//! What tests share: temporary folders, awkward trees, and a look at trees that owes nothing to
//! the code under test.

pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod hooked;
pub(crate) mod odd;
pub(crate) mod pruning;
pub(crate) mod random;
pub(crate) mod refusing;
pub(crate) mod restored;
pub(crate) mod tree;
pub(crate) mod ways;
pub(crate) mod world;
