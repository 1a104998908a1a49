//! One config file: its tables, checked. Whatever it has that cannot be used is told with the line, all at once.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::limits::Limits;
use super::tree::{self, Kind, Mistake, Node, Tree};
use crate::config::keys::{Group, KEYS};
use crate::config::value::{Reader, is_word};

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Of root, on the machine where Slurm's commands run.
    Admin,
    User,
    /// Named by the caller.
    Named,
}

/// A value and the line of its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub value: Value,
    pub line: Option<usize>,
}

pub type Table = BTreeMap<String, Entry>;

/// A file that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigFile {
    /// Its path, and the host where that is another.
    pub name: String,
    pub role: Role,
    pub defaults: Table,
    pub profiles: BTreeMap<String, Table>,
    /// Keys outside of all tables, of a named file alone. They are a request's, and looked at when all layers are known.
    pub bare: Table,
    pub limits: Limits,
    /// What is run for a lease whose job has ended by itself: a program and its arguments; of the user's own file alone.
    pub on_lost: Vec<String>,
    /// What is said to who acquires a lease.
    pub messages: Vec<String>,
    /// Keys of a login host's file that are not taken from another machine.
    pub left_out: Vec<String>,
}

/// Reads a file's text.
///
/// # Errors
/// What is wrong, each with the file's name and the line.
pub fn parse(name: &str, role: Role, text: &str) -> Result<ConfigFile, Vec<String>> {
    let said = |mistake: Mistake| match mistake.line {
        Some(line) => format!("{name}, line {line}: {}", mistake.text),
        None => format!("{name}: {}", mistake.text),
    };
    let json = role == Role::Named && tree::is_json(name, text);
    let top = if json { tree::json(text) } else { tree::toml(text) }.map_err(|mistake| vec![said(mistake)])?;
    let mut reading = Reading { role, mistakes: Vec::new() };
    let file = reading.file(name, top);
    match reading.mistakes.is_empty() {
        true => Ok(file),
        false => Err(reading.mistakes.into_iter().map(said).collect()),
    }
}

/// The user's hook: outside of all tables, for it is no setting of a lease.
const ON_LOST: &str = "onLost";

struct Reading {
    role: Role,
    mistakes: Vec<Mistake>,
}

impl Reading {
    fn file(&mut self, name: &str, top: Tree) -> ConfigFile {
        let mut file = ConfigFile {
            name: name.to_owned(),
            role: self.role,
            defaults: Table::new(),
            profiles: BTreeMap::new(),
            bare: Table::new(),
            limits: Limits::default(),
            on_lost: Vec::new(),
            messages: Vec::new(),
            left_out: Vec::new(),
        };
        for (key, node) in top {
            match (key.as_str(), self.role) {
                ("defaults", _) => file.defaults = self.table("defaults", &node),
                ("profiles", _) => file.profiles = self.profiles(&node),
                ("limits", Role::Admin) => {
                    let (limits, mistakes) = Limits::parse(name, &node);
                    file.limits = limits;
                    self.mistakes.extend(mistakes);
                }
                ("message", Role::Admin) => file.messages = self.messages(&node),
                (ON_LOST, Role::User) => file.on_lost = self.argv(ON_LOST, &node),
                (ON_LOST, _) => {
                    self.complain(
                        node.line,
                        format!("{ON_LOST:?} runs a program, so it belongs to your own file alone"),
                    );
                }
                ("limits" | "message", _) => {
                    self.complain(node.line, format!("{key:?} belongs to the admins' file, {}", super::ADMIN_FILE));
                }
                (_, Role::Named) => {
                    file.bare.insert(key, Entry { value: node.value(), line: node.line });
                }
                _ if KEYS.iter().any(|known| known.name == key) => {
                    self.complain(node.line, format!("config key {key:?} stands outside of all tables; put it below [defaults] or [profiles.NAME]"));
                }
                _ => {
                    let known = match self.role {
                        Role::Admin => "[defaults], [profiles.NAME], [limits] and [[message]]",
                        _ => "[defaults] and [profiles.NAME]; before them stands onLost",
                    };
                    self.complain(node.line, format!("{key:?} is unknown; the tables of this file are {known}"));
                }
            }
        }
        file
    }

    fn complain(&mut self, line: Option<usize>, text: impl Into<String>) {
        self.mistakes.push(Mistake { line, text: text.into() });
    }

    fn tree<'a>(&mut self, what: &str, node: &'a Node) -> Option<&'a Tree> {
        match &node.kind {
            Kind::Table(tree) => Some(tree),
            _ => {
                self.complain(node.line, format!("{what:?} is no table; write [{what}] and its keys below"));
                None
            }
        }
    }

    fn table(&mut self, what: &str, node: &Node) -> Table {
        let tree = self.tree(what, node).cloned().unwrap_or_default();
        let entries = tree.into_iter().map(|(key, node)| (key, Entry { value: node.value(), line: node.line }));
        self.checked(entries.collect())
    }

    fn profiles(&mut self, node: &Node) -> BTreeMap<String, Table> {
        let mut profiles = BTreeMap::new();
        for (name, node) in self.tree("profiles", node).into_iter().flatten() {
            if !is_profile_name(name) {
                self.complain(node.line, format!("the profile's name {name:?} is no word of letters, digits and ._-"));
                continue;
            }
            let table = self.table(&format!("profiles.{name}"), node);
            if let Some(entry) = table.get("profile") {
                self.complain(entry.line, "a profile cannot name another one");
            }
            profiles.insert(name.clone(), table);
        }
        profiles
    }

    fn argv(&mut self, what: &str, node: &Node) -> Vec<String> {
        let argv = serde_json::from_value::<Vec<String>>(node.value()).unwrap_or_default();
        if argv.first().is_none_or(String::is_empty) || argv.iter().any(|word| word.contains('\0')) {
            self.complain(
                node.line,
                format!("{what:?} is no list of a program and its arguments, such as [\"notify\", \"lost\"]"),
            );
        }
        argv
    }

    fn messages(&mut self, node: &Node) -> Vec<String> {
        const FORM: &str = "write [[message]] and below it text = \"…\"";
        let Kind::Array(items) = &node.kind else {
            self.complain(node.line, format!("\"message\" is no list of tables; {FORM}"));
            return Vec::new();
        };
        let mut messages = Vec::new();
        for item in items {
            let Kind::Table(tree) = &item.kind else {
                self.complain(item.line, format!("a message is no table; {FORM}"));
                continue;
            };
            let unknown = tree.iter().find(|(key, _)| *key != "text");
            match (unknown, tree.get("text").map(Node::value)) {
                (Some((key, node)), _) => self.complain(node.line, format!("{key:?} of a message is unknown; {FORM}")),
                (None, Some(Value::String(text))) => messages.push(text),
                _ => self.complain(item.line, format!("a message has no text; {FORM}")),
            }
        }
        messages
    }

    /// Looks at each key by itself: what several keys mean together is known when all layers are.
    fn checked(&mut self, table: Table) -> Table {
        let map: Map<String, Value> = table.iter().map(|(key, entry)| (key.clone(), entry.value.clone())).collect();
        let mut reader = Reader::new(&map);
        crate::config::read(&mut reader);
        for complaint in reader.complaints() {
            if let [key] = &complaint.keys[..] {
                self.complain(table.get(key).and_then(|entry| entry.line), complaint.text);
            }
        }
        table
    }
}

/// Whether a profile can be called so; the name may come to stand for a host in an ssh configuration.
pub fn is_profile_name(text: &str) -> bool {
    const MOST_CHARS: usize = 60;
    is_word(text, "._-") && text.len() <= MOST_CHARS && !text.starts_with('.')
}

/// Keys that act on the client: its files, programs and the hosts that it logs in to. root of a login host is not root of the
/// machines that log in there, so these are never taken from its file.
const OF_THE_CLIENT: &[&str] = &["loginHost", "loginUser", "proxyCommand", "runnerScript", "sshPrivateKey", "sshUser"];

fn acts_on_client(key: &str) -> bool {
    OF_THE_CLIENT.contains(&key) || KEYS.iter().any(|known| known.name == key && known.group == Group::LoginHost)
}

impl ConfigFile {
    /// The same as it counts for a client on another machine.
    #[must_use]
    pub fn of_login_host(mut self) -> ConfigFile {
        let mut left_out = std::collections::BTreeSet::new();
        for table in self.profiles.values_mut().chain([&mut self.defaults]) {
            left_out.extend(table.keys().filter(|key| acts_on_client(key)).cloned());
            table.retain(|key, _| !acts_on_client(key));
        }
        self.left_out = left_out.into_iter().collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NAME: &str = "/c/config.toml";

    #[test]
    fn a_file_has_its_tables() {
        let text = "[defaults]\npartition = \"batch\"\nprofile = \"cpu\"\n[profiles.cpu]\ncpus = 2\n[profiles.\"gpu\"]\ngpus = 1\n\
                    [limits]\ncpus = 8\n[[message]]\ntext = \"one\"\n[[message]]\ntext = \"two\"\n";
        let file = parse(NAME, Role::Admin, text).unwrap();
        assert_eq!(file.defaults["partition"].line, Some(2));
        assert_eq!(file.profiles.keys().collect::<Vec<_>>(), ["cpu", "gpu"]);
        assert_eq!(file.messages, ["one", "two"]);
        assert!(file.limits != Limits::default());
    }

    #[rstest]
    #[case::unknown_key(Role::User, "[defaults]\ncpuz = 1\n", "line 2", "\"cpuz\"")]
    #[case::a_similar_key(Role::User, "[defaults]\nCPUS = 1\n", "line 2", "is \"cpus\" meant?")]
    #[case::unknown_table(Role::User, "\n[deafults]\ncpus = 1\n", "line 2", "\"deafults\"")]
    #[case::a_value(Role::Admin, "[profiles.x]\n\ncpus = \"many\"\n", "line 3", "\"cpus\" is \"many\"")]
    #[case::a_key_outside(Role::User, "cpus = 1\n", "line 1", "[defaults]")]
    #[case::no_table(Role::User, "defaults = 1\n", "line 1", "\"defaults\"")]
    #[case::profiles_are_tables(Role::User, "[profiles]\ngpu = 1\n", "line 2", "profiles.gpu")]
    #[case::a_profiles_name(Role::User, "[profiles.\"a b\"]\n", "line 1", "\"a b\"")]
    #[case::a_profile_in_a_profile(Role::User, "[profiles.a]\nprofile = \"b\"\n", "line 2", "another")]
    #[case::a_table_as_a_value(Role::User, "[defaults.cpus]\nmost = 1\n", "line 1", "\"cpus\"")]
    #[case::limits_of_a_user(Role::User, "[limits]\ncpus = 1\n", "line 1", "admins")]
    #[case::limits_of_a_named_file(Role::Named, "[limits]\ncpus = 1\n", "line 1", "admins")]
    #[case::message_of_a_user(Role::User, "[[message]]\ntext = \"a\"\n", "line 1", "admins")]
    #[case::message_without_text(Role::Admin, "[[message]]\n", "line 1", "no text")]
    #[case::message_with_more(Role::Admin, "[[message]]\ntext = \"a\"\ncolour = 1\n", "line 3", "colour")]
    #[case::a_plain_message(Role::Admin, "message = \"a\"\n", "line 1", "[[message]]")]
    #[case::no_toml(Role::Admin, "[defaults]\n[defaults\n", "line 2", "TOML")]
    fn mistakes_have_file_and_line(#[case] role: Role, #[case] text: &str, #[case] line: &str, #[case] words: &str) {
        let mistakes = parse(NAME, role, text).unwrap_err();
        let wanted = format!("{NAME}, {line}: ");
        assert!(mistakes.iter().any(|said| said.starts_with(&wanted) && said.contains(words)), "{mistakes:?}");
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let mistakes = parse(NAME, Role::User, "[defaults]\na = 1\nb = 2\n[x]\n").unwrap_err();
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    }

    #[test]
    fn keys_that_need_others_are_no_mistake_of_a_file() {
        parse(
            NAME,
            Role::User,
            "[defaults]\nsubmitUser = \"alice\"\n[profiles.a]\nsshMode = \"proxy-through-login\"\n",
        )
        .unwrap();
    }

    #[test]
    fn a_named_file_may_be_a_request() {
        let file = parse("/c/x.json", Role::Named, r#"{"cpus": 2, "profiles": {"a": {"mem": "1G"}}}"#).unwrap();
        assert_eq!((file.bare["cpus"].value.clone(), file.profiles["a"].len()), (2.into(), 1));
        let file = parse("/c/x.toml", Role::Named, "cpus = 2\n[defaults]\nmem = \"1G\"\n").unwrap();
        assert_eq!((file.bare.len(), file.defaults.len()), (1, 1));
        assert!(parse("/c/x.json", Role::Named, "cpus: 1").unwrap_err()[0].contains("JSON object"));
    }

    #[test]
    fn what_acts_on_a_client_is_not_taken_from_a_login_host() {
        let text = "[defaults]\nproxyCommand = \"x\"\nsubmitHost = \"y\"\npartition = \"z\"\n[profiles.a]\nrunnerScript = \"/r\"\nmem = \"1G\"\n";
        let file = parse(NAME, Role::Admin, text).unwrap().of_login_host();
        assert_eq!(file.defaults.keys().collect::<Vec<_>>(), ["partition"]);
        assert_eq!(file.profiles["a"].keys().collect::<Vec<_>>(), ["mem"]);
        assert_eq!(file.left_out, ["proxyCommand", "runnerScript", "submitHost"]);
    }
}
