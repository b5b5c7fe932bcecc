//! All hubs of this process, and the one place where the network can be switched off.

use super::civitai::Civitai;
use super::client::Timeouts;
use super::folder::Folder;
use super::hugging_face::HuggingFace;
use super::mirrors::Mirrors;
use super::modelscope::ModelScope;
use super::search::{FoundPage, Question};
use super::site::parse_endpoint;
use super::web::Web;
use super::{Expected, Hub, HubError, Known, Origin, Placed, Published, RangeStream, RepoListing, Sought};
use crate::base::{ByteRange, Digest, Locator, Secret};
use crate::tree::Source;
use std::sync::Arc;
use std::time::Duration;

pub const HUGGING_FACE_ENDPOINT: &str = "https://huggingface.co";
pub const CIVITAI_ENDPOINT: &str = "https://civitai.com";
pub const MODELSCOPE_ENDPOINT: &str = "https://modelscope.cn";
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
    pub civitai_endpoint: String,
    pub civitai_token: Option<Secret>,
    pub modelscope_endpoint: String,
    pub modelscope_token: Option<Secret>,
    /// Hubs that are asked first for a file that several have.
    pub order: Vec<Source>,
    /// Where a repository may be found too, when all known places of a file fail.
    pub mirrors: Mirrors,
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
            civitai_endpoint: CIVITAI_ENDPOINT.to_owned(),
            civitai_token: None,
            modelscope_endpoint: MODELSCOPE_ENDPOINT.to_owned(),
            modelscope_token: None,
            order: Vec::new(),
            mirrors: Mirrors::default(),
            offline: false,
            connect_timeout: CONNECT_TIMEOUT,
            read_timeout: READ_TIMEOUT,
        }
    }
}

impl HubOptions {
    /// Where people open the pages of Hugging Face: the endpoint as it is asked, or the hub itself where that is none.
    pub fn hf_pages(&self) -> String {
        let endpoint = parse_endpoint(&self.hf_endpoint).map(String::from);
        endpoint.as_deref().unwrap_or(HUGGING_FACE_ENDPOINT).trim_end_matches('/').to_owned()
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
        let hubs: [Arc<dyn Hub>; 5] = [
            Arc::new(HuggingFace::new(&options.hf_endpoint, options.hf_token, timeouts)),
            Arc::new(Civitai::new(&options.civitai_endpoint, options.civitai_token, timeouts)),
            Arc::new(ModelScope::new(&options.modelscope_endpoint, options.modelscope_token, timeouts)),
            Arc::new(Web::new(timeouts)),
            Arc::new(Folder),
        ];
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

    pub async fn search(&self, source: Source, question: &Question) -> Result<FoundPage, HubError> {
        self.hub(source)?.search(question).await
    }

    pub async fn open_range(
        &self,
        origin: &Origin,
        expected: &Expected,
        range: ByteRange,
    ) -> Result<RangeStream, HubError> {
        self.hub(origin.source)?.open_range(origin, expected, range).await
    }

    /// Which of these contents one hub knows.
    pub async fn known(&self, source: Source, sha256s: &[Digest]) -> Result<Vec<Known>, HubError> {
        self.hub(source)?.known(sha256s).await
    }

    /// As `Hub::cards_max`.
    pub fn cards_max(&self, source: Source) -> Result<usize, HubError> {
        Ok(self.hub(source)?.cards_max())
    }

    /// Where one hub has these contents.
    pub async fn placed(&self, source: Source, sha256s: &[Digest]) -> Result<Option<Vec<Placed>>, HubError> {
        self.hub(source)?.placed(sha256s).await
    }

    /// What one hub tells about these repositories.
    pub async fn cards(&self, source: Source, sought: &[Sought]) -> Result<Option<Vec<Option<Published>>>, HubError> {
        self.hub(source)?.cards(sought).await
    }

    /// What one hub tells about these contents.
    pub async fn published(&self, source: Source, sha256s: &[Digest]) -> Result<Vec<(Digest, Published)>, HubError> {
        self.hub(source)?.published(sha256s).await
    }

    /// What one hub tells about a content with these tensors.
    pub async fn published_by_tensors(&self, source: Source, autov3: &str) -> Result<Option<Published>, HubError> {
        self.hub(source)?.published_by_tensors(autov3).await
    }

    /// The repository in which one hub has this content, with that file alone.
    pub async fn describe_by_hash(&self, source: Source, sha256: Digest) -> Result<Option<RepoListing>, HubError> {
        match self.known(source, &[sha256]).await?.first() {
            Some(known) => self.describe(&known.locator).await.map(Some),
            None => Ok(None),
        }
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

    #[test]
    fn pages_are_those_of_the_endpoint_without_what_it_must_not_hold() {
        for (endpoint, pages) in [
            ("https://mirror.example/hf/?token=hunter2", "https://mirror.example/hf"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://user:hunter2@mirror.example", HUGGING_FACE_ENDPOINT),
            ("none", HUGGING_FACE_ENDPOINT),
        ] {
            let options = HubOptions { hf_endpoint: endpoint.to_owned(), ..HubOptions::default() };
            assert_eq!(options.hf_pages(), pages);
        }
    }

    #[tokio::test]
    async fn offline_fails_at_once_and_a_bad_endpoint_only_when_used() {
        let locator = Locator::parse("hf:org/name").expect("well formed");
        let offline = HubSet::new(HubOptions { offline: true, ..HubOptions::default() });
        assert_eq!(offline.describe(&locator).await, Err(HubError::Offline));
        let broken = HubSet::new(HubOptions { hf_endpoint: "not a url".to_owned(), ..HubOptions::default() });
        assert!(matches!(broken.describe(&locator).await, Err(HubError::Endpoint { .. })));
    }
}
