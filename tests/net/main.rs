//! Tests against real servers on this machine, and against one that plays tricks. Each starts what
//! it needs, and fails where that cannot be started.

mod fake;
mod files_contract;
mod ftp;
mod ftp_hostile;
mod support;
