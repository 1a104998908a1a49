pub mod failure;
pub mod files;
pub mod protocol;
