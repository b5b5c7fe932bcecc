//! All hubs of this process, and the one place where the network can be switched off.

use super::client::Timeouts;
use super::folder::Folder;
use super::hugging_face::HuggingFace;
use super::web::Web;
use super::{Expected, Hub, HubError, Origin, RangeStream, RepoListing};
use crate::base::{ByteRange, Locator, Secret};
use crate::tree::Source;
use std::sync::Arc;
use std::time::Duration;

pub const HUGGING_FACE_ENDPOINT: &str = "https://huggingface.co";
/// A connection that is not up by then goes to a host that is down or filtered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence on a connection; the official client waits as long.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of the hubs.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Base URL of Hugging Face or of a mirror.
    pub hf_endpoint: String,
    pub hf_token: Option<Secret>,
    /// Every request fails at once.
    pub offline: bool,
    pub connect_timeout: Duration,
    /// Longest silence on a connection before it counts as dead.
    pub read_timeout: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            hf_endpoint: HUGGING_FACE_ENDPOINT.to_owned(),
            hf_token: None,
            offline: false,
            connect_timeout: CONNECT_TIMEOUT,
            read_timeout: READ_TIMEOUT,
        }
    }
}

/// The hubs that are known. Cheap to clone. Making one touches neither network nor disk.
#[derive(Clone)]
pub struct HubSet {
    hubs: Arc<[Arc<dyn Hub>]>,
    offline: bool,
}

impl HubSet {
    pub fn new(options: HubOptions) -> Self {
        let timeouts = Timeouts { connect: options.connect_timeout, read: options.read_timeout };
        let hugging_face = HuggingFace::new(&options.hf_endpoint, options.hf_token, timeouts);
        let hubs: [Arc<dyn Hub>; 3] = [Arc::new(hugging_face), Arc::new(Web::new(timeouts)), Arc::new(Folder)];
        Self { hubs: Arc::new(hubs), offline: options.offline }
    }

    /// A set of other hubs, for tests of what is above.
    pub fn of(hubs: Vec<Arc<dyn Hub>>, offline: bool) -> Self {
        Self { hubs: hubs.into(), offline }
    }

    pub fn is_offline(&self) -> bool {
        self.offline
    }

    pub async fn describe(&self, locator: &Locator) -> Result<RepoListing, HubError> {
        self.hub(source_of(locator))?.describe(locator).await
    }

    pub async fn open_range(
        &self,
        origin: &Origin,
        expected: &Expected,
        range: ByteRange,
    ) -> Result<RangeStream, HubError> {
        self.hub(origin.source)?.open_range(origin, expected, range).await
    }

    fn hub(&self, source: Source) -> Result<&Arc<dyn Hub>, HubError> {
        if self.offline && source != Source::Folder {
            return Err(HubError::Offline);
        }
        let found = self.hubs.iter().find(|hub| hub.source() == source);
        found.ok_or(HubError::NoHub { source_name: source.as_str() })
    }
}

/// Which hub a locator is about.
pub fn source_of(locator: &Locator) -> Source {
    match locator {
        Locator::HuggingFace { .. } => Source::HuggingFace,
        Locator::Civitai { .. } => Source::Civitai,
        Locator::ModelScope { .. } => Source::ModelScope,
        Locator::Web(_) => Source::Web,
        Locator::Folder(_) => Source::Folder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn offline_fails_at_once_and_a_bad_endpoint_only_when_used() {
        let locator = Locator::parse("hf:org/name").expect("well formed");
        let offline = HubSet::new(HubOptions { offline: true, ..HubOptions::default() });
        assert_eq!(offline.describe(&locator).await, Err(HubError::Offline));
        let broken = HubSet::new(HubOptions { hf_endpoint: "not a url".to_owned(), ..HubOptions::default() });
        assert!(matches!(broken.describe(&locator).await, Err(HubError::Endpoint { .. })));
    }
}
