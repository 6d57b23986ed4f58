//! Tests of the contract, for authors of stores.
//!
//! There is a check for each promise of [`SessionStore`](crate::SessionStore), with concurrent
//! calls where they matter, and a model for random sequences of calls. A store that passes can be
//! used with the middleware. Callers rely on nothing that is not checked here.
//!
//! # Running it
//!
//! Implement [`Subject`], which opens a fresh service with one or more nodes, and expand
//! [`conformance_tests!`](crate::conformance_tests) in a test file. Nothing else is needed: every
//! test is a plain `#[test]` with its own Tokio runtime.
//!
//! ```no_run
//! use std::sync::Arc;
//! use steadfast_core::conformance::Subject;
//! use steadfast_core::{Env, Store};
//!
//! # trait Shelf: Store {} fn shelf(_: Env) -> Arc<dyn Store> { unimplemented!() }
//! struct Shelves;
//!
//! #[async_trait::async_trait]
//! impl Subject for Shelves {
//!     async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
//!         vec![shelf(env)]
//!     }
//! }
//!
//! steadfast_core::conformance_tests!(Shelves);
//! # fn main() {}
//! ```
//!
//! # Assumptions
//!
//! - **Nodes.** Calls go to the nodes in turn. Once a call has returned, all nodes see its effect.
//! - **Clients.** A client carries the hints of earlier answers ([`ClientState`](crate::ClientState)), so a
//!   copy may lag behind a change that no client has seen yet. Once a record ended, or its secret
//!   was replaced, no copy may serve it, whether or not the client carries a hint.
//! - **Time.** The clock of the [`Env`] stands still until a check moves it. No check waits for
//!   real time to pass, except to detect that a call waits for another one.
//! - **Interleavings.** A check polls a call a number of times, then pauses it while others
//!   overtake it. A store may make the others wait for it, but must make progress while it is not
//!   polled.
//! - **Capacity.** Budgets leave room for a few thousand records at a time.
//!
//! # Failing stores
//!
//! [`faults::FaultyStore`] makes any store fail on demand, for tests of code that uses stores.

pub mod checks;
pub mod faults;

mod fixture;
mod model;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::{Builder, Runtime};

pub use self::model::model_check;
use crate::env::Env;
use crate::operate::Store;
use crate::patch::LoginPolicy;
use crate::token::RecordId;

/// A store under test. It opens a fresh, empty service on request.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// Opens the nodes of one new service, at least one. They share their sessions with each other
    /// and with no earlier service.
    ///
    /// Build every node with `env`, whose clock stands still until a check moves it.
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>>;

    /// Makes the record under `id` unreadable, in the service that was opened last. Returns whether
    /// it did.
    ///
    /// A store that keeps bytes overwrites them. A store that keeps records in memory cannot hold a
    /// corrupt one and keeps the default; the check of that point then does nothing.
    async fn corrupt(&self, id: RecordId) -> bool {
        let _ = id;
        false
    }

    /// Changes the format number of the record under `id`, and nothing else, in the service that
    /// was opened last. Returns whether it did. The checks ask for a format that no release knows,
    /// then for the record's own again.
    ///
    /// A store that keeps records in the memory of one process never meets another format and keeps
    /// the default; the check of that point then does nothing.
    async fn set_format(&self, id: RecordId, format: u16) -> bool {
        let _ = (id, format);
        false
    }

    /// Returns true if the store keeps an index of principals. If not, `list`, `delete_all`, caps
    /// and minimum epochs are not checked.
    fn has_index(&self) -> bool {
        true
    }

    /// Returns the cap at which the check of a full cap works. Default: 1,000.
    ///
    /// A store whose logins slow down with the number of sessions may return less.
    fn largest_cap(&self) -> usize {
        LoginPolicy::default().cap
    }

    /// Returns true if the store moves records between nodes by itself, as a sticky one does. The
    /// checks then leave owners and fences alone, and allow a version to grow at any time.
    fn moves_records(&self) -> bool {
        false
    }
}

/// Runs a check on its own Tokio runtime with two threads.
///
/// # Panics
///
/// Panics when the check does, or the system cannot start a thread.
pub fn run(check: impl Future<Output = ()>) {
    runtime().block_on(check);
}

/// Makes one test of every check, and one of the model, for a [`Subject`].
///
/// Each test evaluates the expression again. `cases` is the number of random sequences that are
/// compared with the model, 64 by default: `conformance_tests!(Shelves, cases = 256)`.
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr) => {
        $crate::conformance_tests!($subject, cases = 64);
    };
    ($subject:expr, cases = $cases:expr) => {
        $crate::__conformance_tests! {
            $subject, $cases;
            creation {
                a_created_record_is_found_on_every_node,
                a_create_sent_twice_overwrites_nothing,
                a_create_under_a_taken_id_is_refused,
                one_of_several_concurrent_creates_is_applied,
                a_record_over_a_limit_is_not_created,
                an_update_never_creates,
                a_missing_record_is_not_an_error,
                a_version_continues_where_the_created_record_stood,
                minted_ids_are_distinct,
            }
            patches {
                patches_to_different_keys_all_survive,
                a_slow_patch_takes_nothing_back,
                guarded_updates_of_one_key_lose_nothing,
                of_updates_with_one_expectation_one_is_applied,
                concurrent_additions_are_exact,
                an_expectation_guards_its_key_and_no_other,
                a_conflict_changes_nothing,
                a_clear_removes_only_what_came_before,
                values_are_kept_byte_for_byte,
                a_patch_over_a_limit_is_rejected_whole,
                an_addition_that_cannot_be_is_rejected_whole,
                a_counter_has_the_range_of_i64,
                the_version_grows_with_every_change,
            }
            secrets {
                the_right_proof_opens_the_record,
                a_wrong_proof_changes_nothing_and_learns_nothing,
                a_proof_under_an_earlier_key_is_accepted,
                a_rotation_replaces_the_secret_in_place,
                a_replaced_secret_is_superseded_for_a_minute,
                a_secret_replaced_twice_is_unknown,
                a_rotation_sent_twice_is_applied,
                one_of_two_concurrent_rotations_is_superseded,
                a_write_precedes_the_rotation_or_is_superseded,
                a_rotation_under_way_loses_no_write,
            }
            keys {
                of_rehashes_at_once_every_patch_is_applied,
                a_rehash_replaces_no_secret,
                a_rehash_of_another_hash_applies_the_rest,
                a_hash_never_moves_back,
                a_touch_moves_the_hash_too,
                a_refused_patch_moves_no_hash,
                a_moved_secret_can_be_replaced,
                a_hash_keeps_the_name_of_its_key,
                hashes_under_an_unknown_key_are_errors,
                a_replaced_hash_needs_a_known_key,
            }
            sign_ins {
                another_principals_login_raises_the_sign_in,
                a_sign_in_continues_the_created_records_number,
                what_saw_another_sign_in_changes_nothing,
                a_wrong_proof_learns_nothing_of_sign_ins,
                a_deletion_with_the_replaced_secret_is_superseded,
                a_write_is_before_the_login_or_superseded,
                a_deletion_is_before_the_login_or_superseded,
                a_login_sent_again_counts_once,
                a_login_removes_even_unseen_pre_auth_values,
                a_login_keeps_pre_auth_values_it_writes,
                a_login_frees_pre_auth_values_at_limits,
                only_a_login_removes_pre_auth_values,
                no_overtaken_pre_auth_write_survives_a_login,
                no_early_pre_auth_write_survives_a_login,
                no_copy_outlives_a_login,
            }
            endings {
                after_a_delete_no_node_finds_the_record,
                no_update_under_way_revives_a_deleted_record,
                no_load_under_way_brings_a_record_back,
                a_delete_wins_among_many_updates,
                a_second_delete_finds_nothing,
                a_record_is_gone_at_its_idle_deadline,
                a_record_is_gone_at_its_absolute_deadline,
                no_update_under_way_revives_an_expired_record,
                a_corrupt_record_is_absent_and_deletable,
            }
            deadlines {
                a_touch_moves_only_the_idle_deadline,
                of_several_touches_the_latest_counts,
                touches_and_patches_keep_each_other,
                a_touch_never_passes_the_absolute_deadline,
                the_absolute_deadline_moves_with_an_authentication_only,
                no_patch_outlasts_the_records_idle_lifetime,
                a_login_shortens_the_idle_life,
            }
            principals {
                a_list_shows_live_sessions_only,
                a_list_says_what_the_record_says,
                a_login_as_another_principal_changes_lists,
                a_delete_all_ends_only_its_principals_sessions,
                a_delete_all_leaves_the_excepted_session,
                a_delete_all_ends_or_precedes_concurrent_logins,
                a_floor_rejects_logins_below_it,
                a_floor_lasts_for_a_day,
                a_floor_holds_against_logins_under_way,
                the_cap_holds_under_parallel_logins,
                the_cap_ends_the_oldest_by_authentication,
                the_cap_counts_live_sessions_only,
                the_cap_counts_elevations,
                a_full_cap_is_exact,
                a_login_at_a_refusing_cap_is_refused,
                a_refusing_cap_holds_under_parallel_logins,
            }
            cancellation {
                a_dropped_create_is_whole_or_nothing,
                a_dropped_patch_is_whole_or_nothing,
                a_dropped_login_is_whole_or_nothing,
                a_dropped_rotation_leaves_one_secret,
                a_dropped_delete_is_whole_or_nothing,
                a_dropped_delete_all_can_be_sent_again,
                a_dropped_load_changes_nothing,
            }
            resending {
                a_create_is_repeatable_after_a_lost_answer,
                a_patch_is_repeatable_after_a_lost_answer,
                a_rotation_is_repeatable_after_a_lost_answer,
                a_login_is_repeatable_after_a_lost_answer,
                a_delete_is_repeatable_after_a_lost_answer,
                a_delete_all_is_repeatable_after_lost_answers,
            }
            formats {
                facts_are_kept_byte_for_byte,
                facts_change_with_an_authentication_only,
                records_of_a_newer_format_stay_unchanged,
            }
            operation {
                an_owner_changes_only_under_the_expected_fence,
                of_takeovers_at_once_one_is_applied,
                collecting_leaves_live_records_alone,
                a_scan_shows_every_record_once,
                statistics_count_what_is_kept,
                changes_tell_of_patches_and_ends,
                changes_tell_of_sign_ins,
                changes_tell_why_a_session_ended,
                changes_tell_why_a_principals_sessions_ended,
            }
            reports {
                an_expired_session_is_reported_until_acknowledged,
                a_session_over_the_cap_is_reported,
                a_claim_lapses_unless_acknowledged,
                what_a_request_ended_is_not_reported,
                an_extended_session_is_not_reported,
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($subject:expr, $cases:expr; $($theme:ident { $($check:ident,)+ })+) => {
        mod conformance {
            #[allow(unused_imports)]
            use super::*;

            $(mod $theme {
                #[allow(unused_imports)]
                use super::*;

                $(#[test]
                fn $check() {
                    let subject = $subject;
                    $crate::conformance::run($crate::conformance::checks::$theme::$check(&subject));
                })+
            })+

            #[test]
            fn the_store_agrees_with_the_model() {
                $crate::conformance::model_check(&$subject, $cases);
            }
        }
    };
}

fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a thread for the runtime")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_macro_names_every_check() {
        let listed = include_str!("mod.rs");
        for theme in [
            include_str!("checks/creation.rs"),
            include_str!("checks/patches.rs"),
            include_str!("checks/secrets.rs"),
            include_str!("checks/keys.rs"),
            include_str!("checks/sign_ins.rs"),
            include_str!("checks/endings.rs"),
            include_str!("checks/deadlines.rs"),
            include_str!("checks/principals.rs"),
            include_str!("checks/cancellation.rs"),
            include_str!("checks/resending.rs"),
            include_str!("checks/formats.rs"),
            include_str!("checks/operation.rs"),
            include_str!("checks/reports.rs"),
        ] {
            let checks = theme.lines().filter_map(|line| line.strip_prefix("pub async fn "));
            for name in checks.filter_map(|rest| rest.split('(').next()) {
                assert!(listed.contains(&format!(" {name},\n")), "{name} is not in the macro");
            }
        }
    }
}
