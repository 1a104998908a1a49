//! The schemas of what goes over the wire, made from its types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::config;
use crate::protocol::{Lease, Refusal, Request, Success, VERSION};

/// What is read: anything may be absent or null.
fn reading() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_deserialize().into_generator()
}

/// What is written.
fn writing() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

fn of<T: JsonSchema>(generator: SchemaGenerator) -> Value {
    generator.into_root_schema_for::<T>().to_value()
}

/// One request. What the operations need of it is in its rules.
pub fn request() -> Value {
    let mut schema = of::<Request>(reading());
    schema["description"] =
        "One request of the external-provider protocol; fields that are not named here are passed over.".into();
    schema["properties"]["protocolVersion"] = json!({"const": VERSION});
    let mut config = config::schema();
    config["type"] = json!(["object", "null"]);
    config["description"] = "The configuration of the site.".into();
    schema["properties"]["config"] = config;
    schema["required"] = json!(["protocolVersion", "operation"]);
    let needs = |operations: &[&str], field: &str, needed: Value| {
        let asked = json!({"properties": {"operation": {"enum": operations}}});
        let there = json!({"type": "object", "required": needed["required"], "properties": needed["properties"]});
        json!({"if": asked, "then": {"required": [field], "properties": {field: there}}})
    };
    let identity = of::<Lease>(writing());
    let of_lease = |fields: &[&str]| {
        let forms: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), identity["properties"][*field].clone())).collect();
        json!({"required": fields, "properties": forms})
    };
    schema["allOf"] = json!([
        needs(&["acquire"], "desired", of_lease(&["leaseId", "slug", "name"])),
        needs(&["release", "touch"], "lease", of_lease(&["leaseId"])),
    ]);
    schema
}

/// An answer: a refusal where it has an error.
pub fn answer() -> Value {
    let mut generator = writing();
    let success = generator.subschema_for::<Success<'static>>();
    let refusal = generator.subschema_for::<Refusal<'static>>();
    json!({
        "type": "object",
        "if": {"required": ["error"]},
        "then": refusal,
        "else": success,
        "$defs": generator.take_definitions(true),
    })
}

/// A lease.
pub fn lease() -> Value {
    of::<Lease>(writing())
}

/// All leases.
pub fn list() -> Value {
    of::<Vec<Lease>>(writing())
}
