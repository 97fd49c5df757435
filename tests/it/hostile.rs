//! The repository, the cache and the target are an enemy's: nothing panics, hangs, takes memory
//! without bound, leaves the target, or is believed without proof.

mod bombs;
mod caches;
pub(crate) mod forge;
mod naive;
mod numbers;
mod races;
mod references;
mod sealed;
mod taken;
mod targets;
mod twins;
