//! What slurm-sandbox promises, as scenarios that run the real binary on a site. tests/it/main.rs runs them on the fake
//! scheduler, tests/slurm.rs on a real Slurm, from the login host and from a laptop; a scenario sees only a [`site::Site`].
//!
//! - `site`, `fake`, `campus`: where the binary runs; `lease`: identities; `process` runs it; `wire` checks and reads what it answers,
//!   `schemas` holds it against the program's schemas; `session` logs in to leases; `leftovers` proves that nothing of one is left.
//! - all others: scenarios, one function each. [`shared`] lists those that run on every site, [`laptop`] has what only a client
//!   outside meets.

pub mod campus;
pub mod client_ssh;
pub mod clusters;
pub mod commands;
pub mod configuration;
pub mod connection;
pub mod damage;
pub mod endings;
pub mod environment;
pub mod fake;
pub mod frozen;
pub mod hanging;
pub mod hostile;
pub mod identity;
pub mod laptop;
pub mod lease;
pub mod leftovers;
pub mod lifecycle;
pub mod live;
pub mod names;
pub mod people;
pub mod process;
pub mod proven;
pub mod routes;
pub mod runners;
pub mod schemas;
pub mod session;
pub mod site;
pub mod spares;
pub mod startup;
pub mod strangers;
pub mod together;
pub mod truth;
pub mod versions;
pub mod waiting;
pub mod wire;

/// Says something past the test harness, which swallows the output of tests that pass.
pub fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What a table has for a case.
#[track_caller]
pub fn case<T: Copy>(table: &[(&str, T)], name: &str) -> T {
    let found = table.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no case {name}")).1
}

/// Makes a test of each scenario that runs on every kind of site; `$skipped` is asked with its name. A scenario with tables
/// of cases is a test for each of them.
#[macro_export]
macro_rules! shared {
    ($open:path, $skipped:path) => {
        $crate::shared! { @ $open, $skipped,
            lifecycle: a_lease_from_doctor_to_nothing_left the_same_without_accounting a_job_that_slurm_has_forgotten
                a_dead_job_is_an_error_at_once releases_that_find_nothing
                files_of_the_client what_a_list_tells;
            waiting: a_queued_job_is_released_before_it_starts a_clean_timeout_with_keep_leaves_the_job_queued
                a_timeout_without_keep_leaves_nothing a_job_that_dies_at_its_start_says_why
                requests_that_can_never_be_met_fail_fast[NEVER unknown_partition unknown_account unknown_qos too_many_cpus too_much_memory
                    too_many_gpus unknown_gres unknown_feature unknown_node unknown_reservation too_long too_many_nodes]
                a_caller_killed_while_its_job_waits callers_killed_at_any_moment
                releases_killed_at_any_moment a_full_queue_may_be_tried_again;
            proven: a_login_that_need_not_be_repeated an_sshd_that_stands_still;
            identity: a_slug_that_two_leases_have a_slug_that_is_another_leases_job_id another_slug_or_name_for_a_lease
                a_caller_that_expects_another_lease lease_ids_that_are_none requests_that_are_none;
            together: acquires_of_one_lease_at_once acquires_against_releases inventories_beside_everything_else
                cleanups_beside_starting_acquires many_resolves_at_once;
            environment: variables_that_steer_slurm_change_nothing secrets_stay_with_their_owner a_caller_in_a_strange_place;
            runners: a_runner_of_the_reference_adapter a_runner_that_asks_for_an_array an_sshd_that_refuses_its_user;
            damage: damaged_records[DAMAGES truncated empty binary missing another_leases a_directory a_link all_but_the_key_gone]
                a_state_dir_that_is_not_ours;
            endings: untaken_after_an_answer while_it_starts a_job_that_a_session_submits never_answered kept_in_the_queue a_permit_removed_by_hand idle_under_a_dashboard
                a_forgotten_terminal a_long_silent_command a_detached_process past_its_time_to_live
                a_touch_moves_the_end the_time_limit_is_near;
            versions: a_record_of_the_first_version records_of_a_newer_version a_newer_tree
                a_newer_shared_tree a_runner_of_a_newer_contract;
            hostile: endpoints_that_lie_before_the_answer
                    [FILES a_link_to_a_secret a_link_to_nowhere a_fifo a_directory huge binary]
                    [TEXTS empty half an_array no_port a_port_with_a_command port_0 another_nonce a_host_key_line_too_many]
                a_lure_before_the_answer
                endpoints_that_lie_after_the_answer
                    [FILES a_link_to_a_secret a_link_to_nowhere a_fifo a_directory huge binary]
                    [TEXTS empty half an_array no_port a_port_with_a_command port_0 another_nonce a_host_key_line_too_many]
                    [LATER a_lure gone]
                other_files_that_lie[FILES a_link_to_a_secret a_link_to_nowhere a_fifo a_directory huge binary]
                files_that_lie_at_the_end
                a_shared_dir_that_leads_away[LEADS_AWAY a_link the_attempt_a_link a_file gone deep unreadable]
                one_lease_against_another;
            frozen: a_controller_frozen_during_sbatch a_controller_frozen_during_reads a_controller_frozen_during_a_release
                a_controller_that_is_dead;
            live: a_look_at_a_node a_job_that_waits an_interrupted_one a_mistake_in_the_configuration;
            names: a_name_for_everything ten_at_once_are_one_lease a_window_that_is_closed_in_the_queue no_job_at_night
                names_that_are_taken_or_none files_of_ssh_as_users_have_them;
            commands: a_command_and_its_streams
                runs_that_are_cut_short[CUTS term interrupt hangup a_terminal_that_is_closed]
                a_run_that_is_interrupted_in_the_queue a_run_on_a_terminal a_detached_command a_wait_for_a_lease
                where_sessions_begin what_extends_a_lease;
            people: a_rendered_submission what_is_used what_is_used_without_accounting logs_that_follow a_line_that_lives
                tables_that_fit a_watch;
            spares: a_lease_from_a_spare a_spare_without_a_listener spares_come_by_themselves many_want_few_spares one_lease_and_many_callers a_spare_that_has_died
                spares_that_die_while_they_are_taken spares_of_another_pool spares_of_the_longest_time a_spare_for_one_that_waits
                callers_killed_while_they_take_a_spare upkeep_beside_everything_else pools_that_cannot_be_filled
                damaged_leases_on_seats[DAMAGES the_record the_record_and_the_seats the_record_and_the_seats_identity
                    the_record_and_its_identity];
            clusters: two_clusters_with_the_same_job_ids;
            configuration: layers_of_settings files_that_are_refused[FILES unknown_key unknown_table no_toml writable a_directory_that_is_writable limits]
                a_file_of_the_admins a_first_file a_person_answers;
            truth: a_job_that_imitates_others another_state_dir_of_the_same_lease
                another_state_dir_with_the_same_shared_dir a_copied_state_dir
                a_release_in_a_copied_state_dir;
        }
    };
    (@ $open:path, $skipped:path, $($module:ident: $($name:ident $([$table:ident $($case:ident)+])*)+;)+) => {
        $(mod $module {
            $($crate::shared! { scenario $open, $skipped, $module $name $([$table $($case)+])* })+
        })+
    };
    (scenario $open:path, $skipped:path, $module:ident $name:ident) => {
        #[test]
        fn $name() {
            if !$skipped(concat!(stringify!($module), "::", stringify!($name))) {
                $crate::scenarios::$module::$name($open);
            }
        }
    };
    (scenario $open:path, $skipped:path, $module:ident $name:ident $([$table:ident $($case:ident)+])+) => {
        mod $name {
            $(const _: () = assert!(
                [$(stringify!($case)),+].len() == $crate::scenarios::$module::$table.len(),
                "a case without a test"
            );
            $(#[test]
            fn $case() {
                if !$skipped(concat!(stringify!($module), "::", stringify!($name))) {
                    let case = $crate::scenarios::case($crate::scenarios::$module::$table, stringify!($case));
                    $crate::scenarios::$module::$name($open, case);
                }
            })+)+
        }
    };
}
