//! What must end the same whatever version of Slurm speaks: scenarios on the fake in the dialects of versions that differ.

use crate::scenarios::site::{Place, Setup, Site};

fn site(setup: Setup, version: &str) -> Site {
    let site = Site::fake(setup);
    let Place::Fake(fake) = &site.place else { unreachable!() };
    fake.control(&["conf", &format!("Version={version}")]).ok();
    site
}

macro_rules! dialect {
    ($($module:ident $version:literal;)+) => {
        $(mod $module {
            pub fn open(setup: crate::scenarios::site::Setup) -> crate::scenarios::site::Site {
                super::site(setup, $version)
            }

            crate::shared!(@ crate::dialects::$module::open, crate::never,
                lifecycle: a_lease_from_doctor_to_nothing_left;
                waiting: requests_that_can_never_be_met_fail_fast a_job_that_dies_at_its_start_says_why;
                clusters: two_clusters_with_the_same_job_ids;
                frozen: munge_that_is_away;
            );
        })+
    };
}

// 22.05 is what the fake speaks everywhere else.
dialect! {
    slurm_20_11 "20.11.4";
    slurm_23_02 "23.02.7";
    slurm_24_11 "24.11.5";
    slurm_25_11 "25.11.2";
    slurm_26_05 "26.05.5";
}
