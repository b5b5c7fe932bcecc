//! What goes wrong on demand, where, and how often.
//!
//! Invariant: a rule is used up only by an answer that its fault can spoil: cutting a body does not count redirects.

use std::time::Duration;

/// Which kind of answer is spoiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// `/api/…`: information, trees.
    Api,
    /// `/resolve/…`: the redirect with a file's identity.
    Resolve,
    /// Where a file's bytes come from: the CDN, and for small files the hub itself.
    Bytes,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// The answer starts this much later.
    Latency(Duration),
    /// This status with a short text.
    Status(u16),
    /// 429, or another status, with `Retry-After`.
    RetryAfter { status: u16, seconds: u32 },
    /// The connection ends in order, but too early.
    Truncate { after_bytes: u64 },
    /// Nothing more comes until `FakeHub::release`.
    Stall { after_bytes: u64 },
    /// The connection is reset.
    Reset { after_bytes: u64 },
    /// 206 for the range that starts one byte later.
    WrongContentRange,
    /// 200 and the whole file in answer to a range.
    WholeForRange,
    /// 200 with a page of a captive portal.
    HtmlPage,
    /// The body is compressed although nobody asked for that.
    Gzip,
    /// Another tag at every answer, as if the object were replaced all the time.
    EtagFlip,
    /// A redirect to itself, for ever.
    RedirectLoop,
    /// A signed address is refused once it has given this many bytes.
    Expire { after_bytes: u64 },
    /// One byte of every answer is not the published one.
    WrongBytes,
    /// At most this many bytes in a second for each connection.
    Rate { bytes_per_s: u64 },
    /// 503 while so many bodies are being sent.
    Crowded { streams_max: usize },
}

/// A fault with its conditions.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    place: Option<Place>,
    path: Option<String>,
    skip: u32,
    times: Option<u32>,
}

impl Rule {
    pub fn new(fault: Fault) -> Self {
        Self { fault, place: None, path: None, skip: 0, times: None }
    }

    /// Only for this file, named by its path in the repository or by `org/name/path`.
    pub fn on(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Lets this many answers pass first.
    pub fn after(mut self, answers: u32) -> Self {
        self.skip = answers;
        self
    }

    /// Spoils this many answers, then never again.
    pub fn times(mut self, answers: u32) -> Self {
        self.times = Some(answers);
        self
    }

    /// The fault, when this rule spoils the answer that is about to be given; counts it.
    fn take(&mut self, place: Place, subject: &str) -> Option<Fault> {
        let here = match self.place {
            Some(wanted) => wanted == place,
            None => self.fault.can_spoil(place),
        };
        if !here || !self.path.as_deref().is_none_or(|path| names(subject, path)) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        match &mut self.times {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None => {}
        }
        Some(self.fault.clone())
    }
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

impl Fault {
    /// Where a fault does its work when the rule does not say.
    fn can_spoil(&self, place: Place) -> bool {
        match self {
            Self::Latency(_) | Self::Status(_) | Self::RetryAfter { .. } => true,
            Self::RedirectLoop => place == Place::Resolve,
            Self::Truncate { .. }
            | Self::Stall { .. }
            | Self::Reset { .. }
            | Self::WrongContentRange
            | Self::WholeForRange
            | Self::HtmlPage
            | Self::Gzip
            | Self::EtagFlip
            | Self::Expire { .. }
            | Self::WrongBytes
            | Self::Rate { .. }
            | Self::Crowded { .. } => place == Place::Bytes,
        }
    }
}

/// Whether `subject` (`org/name/path`) is what `path` means.
pub fn names(subject: &str, path: &str) -> bool {
    subject == path || subject.splitn(3, '/').nth(2) == Some(path)
}

pub fn take_all(rules: &mut [Rule], place: Place, subject: &str) -> Vec<Fault> {
    rules.iter_mut().filter_map(|rule| rule.take(place, subject)).collect()
}
