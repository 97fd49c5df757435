//! Buckets of S3-compatible stores: an own small client.
//!
//! | file | what |
//! |---|---|
//! | [`client`] | where a bucket is, who asks, how a request is sent and sent again |
//! | [`sign`] | signatures of requests |
//! | [`refusal`] | what a store that refuses means |
//! | [`xml`] | what a store answers, as rows |
//! | [`objects`] | one object: read, store, delete, tags |
//! | [`listing`] | many: objects, versions, uploads |
//! | [`upload`] | large objects in parts |
//! | [`bucket`] | the bucket itself |
//! | [`kept`] | what a file system knows of a file, as words beside an object |
//!
//! # What is sent again
//! Every request that is made here may be made twice: objects are put whole, and a conditional put
//! says whether an answer was lost before (see [`client::Refused`]). A connection that breaks off,
//! as one that was kept too long does, is replaced at once and once. A store that asks to slow
//! down, or fails inside, is asked again after a short wait with a random part, or after as long
//! as it says, ten seconds at most, four times in all. Time limits and hosts that are away are not
//! tried again here. All longer patience is that of the retries around a backend, so that one call
//! there waits for some seconds here, and not for minutes times minutes.
//!
//! # Checksums
//! The SHA-256 of what is sent is part of the signature, over TLS too, and said once more as the
//! checksum that a store keeps with the object (`x-amz-checksum-sha256`), of parts as well: some
//! stores compare the one (Ceph), some the other (SeaweedFS), most both, and one neither
//! (`rclone serve`). What is read is compared by whoever reads it: names of objects hold hashes.

pub mod bucket;
pub mod client;
pub mod kept;
pub mod listing;
pub mod objects;
pub mod refusal;
pub mod sign;
pub mod upload;
pub mod xml;
