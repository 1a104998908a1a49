//! adopt: a copy of a state dir takes over the leases of its original. Until then nothing of them is ended by list or cleanup,
//! since the original may be in use elsewhere (see lease/instance.rs).

use anyhow::Result;

use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::lookup::load;

/// Takes them over, and says what that means.
///
/// # Errors
/// When the state dir cannot be read or written.
pub fn run(options: &Options) -> Result<String> {
    let store = Store::open(&options.state_dir)?;
    let place = store.path().display().to_string();
    if store.instance().former().next().is_none() {
        return Ok(format!("{place} is no copy; there is nothing to take over"));
    }
    let mut taken = 0;
    for id in store.ids()? {
        let owned = load(&store, &id)?;
        let owned = owned.as_ref().and_then(|found| found.loaded.record()).map(|record| record.instance.as_deref());
        taken += usize::from(owned.is_some_and(|instance| !store.instance().owns(instance)));
    }
    let names = store.adopt()?.join(", ");
    Ok(format!(
        "{place} took over what was made before it was copied ({taken} lease(s), instance {names}); list and cleanup end them \
         like its own from now on. The other copy must not be used any more: each would end what the other one starts"
    ))
}
