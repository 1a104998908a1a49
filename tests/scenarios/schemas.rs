//! Each exchange of each scenario is held against the schemas that the program prints.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;
use slurm_sandbox::schema::Document;

static REQUEST: LazyLock<Validator> = LazyLock::new(|| validator(Document::Request));
static ANSWER: LazyLock<Validator> = LazyLock::new(|| validator(Document::Answer));

fn validator(document: Document) -> Validator {
    jsonschema::validator_for(&document.schema()).expect("a schema")
}

#[track_caller]
fn fits(validator: &Validator, value: &Value) {
    let told: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(told.is_empty(), "{}\ndoes not fit its schema: {value}", told.join("\n"));
}

/// Whatever was asked.
#[track_caller]
pub fn answer(value: &Value) {
    fits(&ANSWER, value);
}

/// A request that was taken: an acquire or a doctor, which read all of it.
#[track_caller]
pub fn exchange(request: &Value, answer: &Value) {
    let refused = matches!(answer["code"].as_str(), Some("bad-request" | "bad-config" | "doctor-red"));
    if matches!(request["operation"].as_str(), Some("acquire" | "doctor")) && !refused {
        fits(&REQUEST, request);
    }
}
