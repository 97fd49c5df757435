//! What the harness of crashes does: deeds, of which the last ones may be cut off anywhere.

use crate::crash::deeds::add_key;
use crate::crash::deeds::add_parity;
use crate::crash::deeds::change_password;
use crate::crash::deeds::check_all;
use crate::crash::deeds::copy_from_another;
use crate::crash::deeds::doom_what_is_needed;
use crate::crash::deeds::lose_a_pack;
use crate::crash::deeds::lose_an_index;
use crate::crash::deeds::prune_that_rescues;
use crate::crash::deeds::remove_parity;
use crate::crash::deeds::rename_it_back;
use crate::crash::deeds::rename_the_other;
use crate::crash::deeds::repair;
use crate::crash::deeds::restore_newest;
use crate::crash::deeds::spoil_a_pack;
use crate::crash::deeds::tag_it_again;
use crate::crash::deeds::tag_the_first;
use crate::crash::story::Deed;
use crate::crash::story::backup;
use crate::crash::story::backup_elsewhere;
use crate::crash::story::backup_killed;
use crate::crash::story::backup_killed_before_its_header;
use crate::crash::story::backup_killed_before_its_index;
use crate::crash::story::change;
use crate::crash::story::forget_first;
use crate::crash::story::forget_second;
use crate::crash::story::full_backup;
use crate::crash::story::grow;
use crate::crash::story::init;
use crate::crash::story::prune;
use crate::crash::story::prune_killed;

/// Deeds, of which the last ones may be cut off at any write.
#[derive(Clone, Copy)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) is_encrypted: bool,
    pub(super) before: &'static [Deed],
    pub(super) deeds: &'static [Deed],
}

pub(super) const WORKLOADS: &[Workload] = &[
    Workload { name: "init", is_encrypted: false, before: &[], deeds: &[init] },
    Workload { name: "init encrypted", is_encrypted: true, before: &[], deeds: &[init] },
    Workload { name: "first backup", is_encrypted: false, before: &[init], deeds: &[backup] },
    Workload {
        name: "partial backup",
        is_encrypted: true,
        before: &[init, backup, change],
        deeds: &[backup, change, backup],
    },
    Workload {
        name: "full backup",
        is_encrypted: false,
        before: &[init, backup, change, backup, change],
        deeds: &[full_backup],
    },
    Workload {
        name: "backup of several indexes",
        is_encrypted: false,
        before: &[init, backup, grow],
        deeds: &[backup],
    },
    Workload {
        name: "resumed backup",
        is_encrypted: false,
        before: &[init, backup_killed_before_its_header],
        deeds: &[backup],
    },
    Workload {
        name: "resumed partial backup",
        is_encrypted: false,
        before: &[init, backup, change, backup_killed_before_its_index, change],
        deeds: &[backup],
    },
    Workload {
        name: "unchanged run",
        is_encrypted: false,
        before: &[init, backup],
        deeds: &[backup],
    },
    Workload {
        name: "forget",
        is_encrypted: false,
        before: &[init, backup, change, backup],
        deeds: &[forget_first],
    },
    Workload {
        name: "tag",
        is_encrypted: true,
        before: &[init, backup, change, backup],
        deeds: &[tag_the_first, tag_it_again],
    },
    Workload {
        name: "rename and back",
        is_encrypted: true,
        before: &[init, backup, backup_elsewhere],
        deeds: &[rename_the_other, rename_it_back, change, backup_elsewhere, rename_the_other],
    },
    Workload {
        name: "repair of a lost index",
        is_encrypted: false,
        before: &[init, backup, change, backup, lose_an_index],
        deeds: &[repair],
    },
    Workload {
        name: "repair of a bad pack",
        is_encrypted: true,
        before: &[init, backup, change, backup, spoil_a_pack],
        deeds: &[repair, prune],
    },
    Workload {
        name: "repair of a lost pack",
        is_encrypted: false,
        before: &[init, backup, change, backup, lose_a_pack],
        deeds: &[repair, backup],
    },
    Workload {
        name: "prune",
        is_encrypted: false,
        before: &[
            init,
            backup,
            backup_elsewhere,
            change,
            backup,
            change,
            full_backup,
            forget_first,
            forget_second,
        ],
        deeds: &[prune],
    },
    Workload {
        name: "prune after a death",
        is_encrypted: true,
        before: &[init, backup, change, full_backup, forget_first, backup_killed, prune_killed],
        deeds: &[prune, change, backup],
    },
    Workload {
        name: "prune that rescues",
        is_encrypted: false,
        before: &[init, backup, change, backup, doom_what_is_needed],
        deeds: &[prune_that_rescues],
    },
    Workload {
        name: "passwords",
        is_encrypted: true,
        before: &[init, backup],
        deeds: &[add_key, change_password],
    },
    Workload {
        name: "restore and check",
        is_encrypted: false,
        before: &[init, backup, change, backup],
        deeds: &[restore_newest, check_all],
    },
    Workload {
        name: "copy from another repository",
        is_encrypted: true,
        before: &[init, change],
        deeds: &[copy_from_another],
    },
    Workload {
        name: "parity",
        is_encrypted: false,
        before: &[init, backup, change, backup],
        deeds: &[add_parity, remove_parity],
    },
];
