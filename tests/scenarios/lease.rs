//! Leases as a test knows them: identities of its own, and what it needs to tell of them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// An identity that no other test uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub id: String,
    pub slug: String,
    pub name: String,
}

impl Lease {
    pub fn new(word: &str) -> Lease {
        let id = format!("cbx_{}", hex(6));
        Lease::of(&id, &format!("{word}-{}", &id[10..]))
    }

    pub fn of(id: &str, slug: &str) -> Lease {
        // The client's own name for a lease: FNV-1a over its id.
        let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Lease { id: id.to_owned(), slug: slug.to_owned(), name: format!("crabbox-{slug}-{hash:08x}") }
    }

    pub fn desired(&self) -> Value {
        json!({"leaseId": self.id, "slug": self.slug, "name": self.name})
    }

    pub fn job_name(&self) -> String {
        format!("cbx-{}", &self.id[4..])
    }
}

pub fn hex(bytes: usize) -> String {
    use std::io::Read;
    let mut random = vec![0; bytes];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).expect("random bytes");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since the epoch.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64()
}

/// The job id in a cloud id.
#[track_caller]
pub fn job_of(lease: &Value) -> String {
    let cloud_id = lease["cloudId"].as_str().expect("a string");
    cloud_id.strip_prefix("slurm/job/").unwrap_or_else(|| panic!("no job: {cloud_id}")).to_owned()
}
