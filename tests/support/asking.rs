//! Asking hubs without a mount, and a word for what they refuse.

use modelfs::base::Locator;
use modelfs::hub::{HubError, HubSet, RepoListing};
use std::future::Future;

pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

pub fn describe(client: &HubSet, text: &str) -> Result<RepoListing, HubError> {
    run(client.describe(&Locator::parse(text).expect(text)))
}

/// The kind of an error, as its variant is called.
pub fn word(error: &HubError) -> String {
    format!("{error:?}").split([' ', '{']).next().unwrap_or_default().to_owned()
}
