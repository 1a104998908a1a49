use super::*;
use rstest::rstest;
use serde_json::json;

fn file(name: &str, role: Role, text: &str) -> ConfigFile {
    parse(name, role, text).unwrap()
}

fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("no object") };
    map
}

/// admins' file, user's, named one, request: what holds.
#[rstest]
#[case::nothing("", "", "", json!({}), json!({}))]
#[case::admin("[defaults]\ncpus = 1", "", "", json!({}), json!({"cpus": 1}))]
#[case::user_over_admin("[defaults]\ncpus = 1\nmem = \"1G\"", "[defaults]\ncpus = 2", "", json!({}), json!({"cpus": 2, "mem": "1G"}))]
#[case::named_over_user("", "[defaults]\ncpus = 2", "[defaults]\ncpus = 3", json!({}), json!({"cpus": 3}))]
#[case::bare_over_defaults("", "", "cpus = 4\n[defaults]\ncpus = 3", json!({}), json!({"cpus": 4}))]
#[case::request_over_all("[defaults]\ncpus = 1", "[defaults]\ncpus = 2", "cpus = 3", json!({"cpus": 5}), json!({"cpus": 5}))]
#[case::lists_are_replaced("[defaults]\npreamble = [\"a\", \"b\"]", "", "", json!({"preamble": ["c"]}), json!({"preamble": ["c"]}))]
#[case::null_says_nothing("[defaults]\ncpus = 1", "", "", json!({"cpus": null}), json!({"cpus": 1}))]
#[case::nothing_sent("[defaults]\nqos = \"a\"", "", "", json!({"qos": ""}), json!({"qos": "a"}))]
#[case::taken_back("[defaults]\nqos = \"a\"", "[defaults]\nqos = \"\"", "", json!({}), json!({}))]
#[case::profile_over_defaults("[profiles.p]\ncpus = 7", "[defaults]\ncpus = 2", "[defaults]\ncpus = 3", json!({"profile": "p"}),
                              json!({"profile": "p", "cpus": 7}))]
#[case::request_over_its_profile("[profiles.p]\ncpus = 7", "", "", json!({"profile": "p", "cpus": 5}), json!({"profile": "p", "cpus": 5}))]
#[case::profile_of_a_request_over_bare("[profiles.p]\ncpus = 7", "", "cpus = 4", json!({"profile": "p"}), json!({"profile": "p", "cpus": 7}))]
#[case::bare_over_its_own_profile("[profiles.p]\ncpus = 7", "", "cpus = 4\nprofile = \"p\"", json!({}), json!({"profile": "p", "cpus": 4}))]
#[case::a_profile_by_default("[defaults]\nprofile = \"p\"\n[profiles.p]\ncpus = 7", "[defaults]\ncpus = 2", "", json!({}),
                             json!({"profile": "p", "cpus": 7}))]
#[case::another_profile_by_request("[defaults]\nprofile = \"p\"\n[profiles.p]\ncpus = 7\nmem = \"1G\"\n[profiles.q]\ncpus = 8", "", "",
                                   json!({"profile": "q"}), json!({"profile": "q", "cpus": 8}))]
#[case::no_profile("[defaults]\nprofile = \"p\"\n[profiles.p]\ncpus = 7", "[defaults]\nprofile = \"\"", "", json!({}), json!({}))]
#[case::one_profile_in_two_files("[profiles.p]\ncpus = 7\nmem = \"1G\"", "[profiles.p]\ncpus = 9", "", json!({"profile": "p"}),
                                 json!({"profile": "p", "cpus": 9, "mem": "1G"}))]
#[case::a_profile_that_is_not_named("[profiles.p]\ncpus = 7", "", "", json!({}), json!({}))]
fn later_layers_go_over_earlier_ones(
    #[case] admin: &str,
    #[case] user: &str,
    #[case] named: &str,
    #[case] request: Value,
    #[case] expected: Value,
) {
    let files = [
        file("/etc/c.toml", Role::Admin, admin),
        file("/home/c.toml", Role::User, user),
        file("n.toml", Role::Named, named),
    ];
    let merged = merge(&files, &map(request), &Origin::Request);
    assert_eq!(Value::from(merged.config.clone()), expected);
    assert!(merged.config.keys().all(|key| merged.origins.contains_key(key)));
}

#[test]
fn a_flag_takes_back_what_files_say() {
    let files = [file("/etc/c.toml", Role::Admin, "[defaults]\ngres = \"gpu:1\"")];
    let merged = merge(&files, &map(json!({"gres": "", "gpus": "2"})), &Origin::Flag);
    assert_eq!(Value::from(merged.config), json!({"gpus": "2"}));
    assert_eq!(merged.origins["gres"], Origin::Flag);
}

#[test]
fn each_value_tells_where_it_is_from() {
    let files = [
        file("/etc/c.toml", Role::Admin, "[defaults]\ncpus = 1\nmem = \"1G\"\n[limits]\nmem = \"2G\"\nmaxLeases = 3"),
        file("/home/c.toml", Role::User, "[profiles.big]\n\nmem = \"4G\""),
    ];
    let mut merged = merge(&files, &map(json!({"profile": "big", "qos": "x"})), &Origin::Flag);
    merged.limit(&files).unwrap();
    let origins: Vec<_> = merged.origins.iter().map(|(key, origin)| format!("{key}: {origin}")).collect();
    assert_eq!(
        origins,
        [
            "cpus: [defaults] of /etc/c.toml, line 2",
            "maxLeases: limit of /etc/c.toml, line 6",
            "mem: limit of /etc/c.toml, line 5; asked for was 4G",
            "profile: a flag",
            "qos: a flag"
        ]
    );
    assert_eq!(merged.config["mem"], "2G");
}

#[test]
fn an_unknown_profile_is_refused_with_those_that_are_known() {
    let files = [
        file("/etc/c.toml", Role::Admin, "[profiles.gpu]\n[profiles.cpu]"),
        file("/home/c.toml", Role::User, "[profiles.gpu]\n[profiles.mine]"),
    ];
    assert_eq!(profiles(&files), ["cpu", "gpu", "mine"]);
    let asked = |name: &str| merge(&files, &map(json!({"profile": name})), &Origin::Request);
    assert!(known_profile(&files, &asked("mine")).is_ok());
    let failure = known_profile(&files, &asked("gpux")).unwrap_err();
    assert_eq!(failure.kind, Kind::BadConfig);
    assert!(["gpux", "cpu, gpu, mine"].iter().all(|word| failure.to_string().contains(word)), "{failure}");
    assert!(known_profile(&[], &asked("gpu")).is_err());
    assert!(known_profile(&[], &Merged::default()).is_ok());
}

#[test]
fn what_does_not_fit_together_names_the_files() {
    let files = [file("/etc/c.toml", Role::Admin, "[defaults]\ngres = \"gpu:1\"")];
    let failure = merge(&files, &map(json!({"gpus": 1})), &Origin::Flag).check().unwrap_err();
    assert!(failure.to_string().contains("gres is from [defaults] of /etc/c.toml, line 2"), "{failure}");
    let files = [file("/c/x.toml", Role::Named, "cpus = 1\n\n[deafults]\nmem = \"1G\"\n")];
    let failure = merge(&files, &Map::new(), &Origin::Flag).check().unwrap_err();
    assert!(failure.to_string().contains("deafults is from /c/x.toml, line 3"), "{failure}");
    let failure = merge(&[], &map(json!({"gpus": 1, "gres": "gpu:1"})), &Origin::Request).check().unwrap_err();
    assert!(failure.to_string().contains("external.config"), "{failure}");
}

#[test]
fn limits_hold_after_all_layers_and_the_strictest_of_two_files_wins() {
    let files = [
        file("/etc/a.toml", Role::Admin, "[limits]\ncpus = 8\npartitions = [\"a\"]"),
        file("/etc/b.toml", Role::Admin, "[limits]\ncpus = 4"),
    ];
    let mut merged = merge(&files, &map(json!({"cpus": 16, "partition": "a"})), &Origin::Flag);
    assert_eq!(merged.limit(&files).unwrap().len(), 2);
    assert_eq!(merged.config["cpus"], 4);
    let failure = merge(&files, &map(json!({"partition": "b"})), &Origin::Flag).limit(&files).unwrap_err();
    assert_eq!(failure.kind, Kind::BadConfig);
}

#[rstest]
#[case::here("[defaults]\ncpus = 1", "", json!({}), true)]
#[case::sent_to_a_login_host_by_the_user("[defaults]\ncpus = 1", "[defaults]\nsubmitHost = \"x\"", json!({}), false)]
#[case::sent_to_a_login_host_by_a_request("[defaults]\ncpus = 1", "", json!({"submitHost": "x"}), false)]
#[case::sent_there_by_itself("[defaults]\nsubmitHost = \"x\"", "", json!({}), true)]
#[case::sent_there_by_both("[defaults]\nsubmitHost = \"x\"", "", json!({"submitHost": "x"}), true)]
#[case::sent_elsewhere("[defaults]\nsubmitHost = \"x\"", "", json!({"submitHost": "y"}), false)]
#[case::sent_there_by_a_profile("[profiles.p]\nsubmitHost = \"x\"", "", json!({"profile": "p"}), true)]
#[case::sent_there_by_a_users_profile("", "[profiles.p]\nsubmitHost = \"x\"", json!({"profile": "p"}), false)]
#[case::kept_here("[defaults]\nsubmitHost = \"x\"", "[defaults]\nsubmitHost = \"\"", json!({}), false)]
fn the_file_of_this_machine_is_about_its_own_cluster(
    #[case] admin: &str,
    #[case] user: &str,
    #[case] request: Value,
    #[case] expected: bool,
) {
    let files = [file("/etc/c.toml", Role::Admin, admin), file("/home/c.toml", Role::User, user)];
    let merged = merge(&files, &map(request), &Origin::Request);
    assert_eq!(is_about_this_cluster(&files[0], &merged), expected);
}
