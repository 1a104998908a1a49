//! The scenarios of tests/scenarios on a real Slurm: the campus, which needs root on Debian 12. See scripts/test. `shared` runs
//! them on the login host, `laptop` from a client outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    dead_code,
    reason = "these are tests, in functions that clippy does not take for such"
)]

mod contract;
mod scenarios;

mod shared {
    crate::shared!(crate::scenarios::site::Site::campus, crate::scenarios::campus::skipped);
}

#[test]
fn login_shells_that_talk() {
    if !scenarios::campus::skipped("") {
        scenarios::runners::login_shells_that_talk(scenarios::site::Site::campus, &["carol", "zoe", "dave"]);
    }
}

/// What only a real Slurm has: hosts that share a home, an operator, a federation.
mod campus {
    crate::shared!(@ crate::scenarios::site::Site::campus, crate::scenarios::campus::skipped,
        truth: two_hosts_with_one_home a_user_id_above_the_half a_job_that_an_operator_requeues a_federation;
        client_ssh: a_users_ssh_configuration[CONFIGURATIONS host_name host_name_pattern host_key_alias canonicalize remote_command
                request_tty session_type fork_after_authentication stdin_null pubkey_authentication host_key_algorithms local_forward
                known_hosts_command revoked_host_keys unknown_keyword]
            a_file_that_ssh_refuses;
        frozen: munge_that_is_away;
        hanging: a_shared_dir_that_hangs a_shared_dir_that_is_slow;
    );
}

/// The same from outside: the client is a laptop, which reaches the login host alone.
mod laptop {
    crate::shared!(crate::scenarios::site::Site::laptop, crate::scenarios::laptop::skipped);
    // What only a client outside meets.
    crate::shared!(@ crate::scenarios::site::Site::laptop, crate::scenarios::campus::skipped,
        connection: one_login a_doctor_from_outside twelve_at_once a_master_that_is_killed a_caller_killed_at_its_first_login a_network_that_is_cut
            a_login_host_that_refuses_connections an_sbatch_whose_answer_is_lost a_key_that_is_refused
            a_connection_that_only_the_user_may_open a_master_killed_under_calls;
        strangers: a_place_for_sockets_that_is_taken a_name_that_leads_to_another_account;
        hanging: a_shared_dir_that_hangs a_shared_dir_that_is_slow;
        routes: every_way_from_a_laptop[WAYS one_login_host a_chain stdio] a_login_host_reached_from_itself sessions_of_their_own
            ways_that_lead_nowhere[WAYS one_login_host a_chain stdio] a_way_that_is_none;
        startup: files_that_interfere files_that_take_their_time;
    );

    #[test]
    fn login_shells_that_talk() {
        if !crate::scenarios::campus::skipped("") {
            crate::scenarios::runners::login_shells_that_talk(
                crate::scenarios::site::Site::laptop,
                &["carol", "zoe", "dave"],
            );
        }
    }
}
