//! Which streams of one file are worth replacing: those that stand still or crawl while others flow.
//!
//! Invariants: a stream is judged only by others of the same file, so a line that is slow for all of them replaces none;
//! each replacement is paid for with bytes that arrived, so their number is bounded whatever happens. Not here: clocks
//! and sockets; the caller says how much time has passed.

use std::collections::VecDeque;

/// A stream that gives nothing for so long while others flow will hardly go on: well above the pauses of a lost packet,
/// a third of the silence that ends a connection.
const STALLED_MS: u64 = 3_000;
/// The same before an answer begins: redirects, a new connection and a cold cache of the storage take their time.
const UNANSWERED_MS: u64 = 6_000;
/// The bytes of so long tell how fast a stream is: one bad second is none.
const WINDOW_MS: u64 = 4_000;
/// A share of the window after which a stream can be a measure for others.
const MEASURED_MS: u64 = 2_000;
/// So many times slower than its peers is broken, and not merely unlucky in sharing the line.
const SLOW_FACTOR: u64 = 8;
/// What a new stream costs before its first byte.
const START_MS: u64 = 1_000;
/// Others flow when they moved this much during a silence: as much as a replacement may fetch twice.
const OTHERS_BYTES_MIN: u64 = 1 << 20;
/// Others flow when one of them was heard this lately.
const OTHERS_HEARD_MS: u64 = 1_000;
/// Streams that ended this long ago tell how fast the line is now.
const ENDED_MS_MAX: u64 = 15_000;
const ENDED_MAX: usize = 8;
/// Replacements a file begins with, earns with each so many bytes, and can save up.
const SPARE_START: u32 = 4;
const SPARE_BYTES: u64 = 16 << 20;
const SPARE_MAX: u32 = 8;

/// What a stream is doing at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Its answer has not begun.
    Opening,
    /// It waits for bytes.
    Receiving,
    /// It waits for this machine: for the disk, or below the limit of the rate.
    Held,
}

/// A stream at the moment of a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    pub id: u64,
    pub stage: Stage,
    pub received_bytes: u64,
    /// What it still has to bring.
    pub left_bytes: u64,
    /// What another would have to bring in its place.
    pub again_bytes: u64,
}

/// What is remembered of a stream between two looks.
#[derive(Debug)]
struct Watched {
    id: u64,
    received_bytes: u64,
    /// Time and bytes between looks, the oldest just inside the window.
    samples: VecDeque<(u64, u64)>,
    silent_ms: u64,
    /// What others brought during the silence, and for how long they have been silent too.
    others_bytes: u64,
    others_silent_ms: u64,
}

impl Watched {
    fn new(stream: &Stream) -> Self {
        Self {
            id: stream.id,
            received_bytes: stream.received_bytes,
            samples: VecDeque::new(),
            silent_ms: 0,
            others_bytes: 0,
            others_silent_ms: 0,
        }
    }

    fn look(&mut self, stream: &Stream, elapsed_ms: u64, total_bytes: u64) {
        let bytes = stream.received_bytes.saturating_sub(self.received_bytes);
        let others_bytes = total_bytes.saturating_sub(bytes);
        self.received_bytes = stream.received_bytes;
        self.others_silent_ms = if others_bytes > 0 { 0 } else { self.others_silent_ms + elapsed_ms };
        if bytes > 0 || stream.stage == Stage::Held {
            (self.silent_ms, self.others_bytes) = (0, 0);
        } else {
            (self.silent_ms, self.others_bytes) = (self.silent_ms + elapsed_ms, self.others_bytes + others_bytes);
        }
        if stream.stage == Stage::Held {
            self.samples.clear();
            return;
        }
        self.samples.push_back((elapsed_ms, bytes));
        while self.samples.front().is_some_and(|(ms, _)| self.watched_ms() - ms >= WINDOW_MS) {
            self.samples.pop_front();
        }
    }

    fn watched_ms(&self) -> u64 {
        self.samples.iter().map(|(ms, _)| ms).sum()
    }

    /// How fast it is, once it has been watched for long enough.
    fn bytes_per_s(&self, watched_ms_min: u64) -> Option<u64> {
        let ms = self.watched_ms();
        let bytes: u64 = self.samples.iter().map(|(_, bytes)| bytes).sum();
        (ms >= watched_ms_min).then(|| bytes.saturating_mul(1000) / ms.max(1))
    }
}

/// The streams of one file, looked at again and again.
#[derive(Debug)]
pub struct Stragglers {
    watched: Vec<Watched>,
    /// When streams ended, and how fast they were.
    ended: VecDeque<(u64, u64)>,
    now_ms: u64,
    total_bytes: u64,
    spare: u32,
    earned_bytes: u64,
}

impl Default for Stragglers {
    fn default() -> Self {
        Self {
            watched: Vec::new(),
            ended: VecDeque::new(),
            now_ms: 0,
            total_bytes: 0,
            spare: SPARE_START,
            earned_bytes: 0,
        }
    }
}

impl Stragglers {
    pub fn new() -> Self {
        Self::default()
    }

    /// There were no streams for a while: how fast the last ones were tells nothing about the next.
    pub fn begin(&mut self) {
        self.watched.clear();
        self.ended.clear();
    }

    /// A stream brought all of its bytes in so much time.
    pub fn ended(&mut self, received_bytes: u64, elapsed_ms: u64) {
        self.ended.push_back((self.now_ms, received_bytes.saturating_mul(1000) / elapsed_ms.max(1)));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }

    /// Looks at all streams. `total_bytes` is everything that ever arrived, also with streams that are gone. The answer names
    /// the streams to be replaced.
    pub fn look(&mut self, elapsed_ms: u64, total_bytes: u64, streams: &[Stream]) -> Vec<u64> {
        let arrived_bytes = total_bytes.saturating_sub(self.total_bytes);
        self.total_bytes = total_bytes;
        self.now_ms += elapsed_ms;
        self.earn(arrived_bytes);
        self.ended.retain(|(at_ms, _)| self.now_ms - at_ms <= ENDED_MS_MAX);
        self.watched.retain(|watched| streams.iter().any(|stream| stream.id == watched.id));
        for stream in streams {
            match self.watched.iter_mut().find(|watched| watched.id == stream.id) {
                Some(watched) => watched.look(stream, elapsed_ms, arrived_bytes),
                None => self.watched.push(Watched::new(stream)),
            }
        }
        let mut given_up = Vec::new();
        for stream in streams {
            if self.spare > 0 && (self.is_stalled(stream) || self.is_slow(stream)) {
                self.spare -= 1;
                given_up.push(stream.id);
            }
        }
        if given_up.len() == streams.len() {
            // The only measure was the past: it is used once.
            self.ended.clear();
        }
        given_up
    }

    fn earn(&mut self, arrived_bytes: u64) {
        self.earned_bytes = self.earned_bytes.saturating_add(arrived_bytes);
        let earned = self.earned_bytes / SPARE_BYTES;
        self.earned_bytes %= SPARE_BYTES;
        self.spare = self.spare.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(SPARE_MAX);
    }

    fn watched(&self, stream: &Stream) -> &Watched {
        let found = self.watched.iter().find(|watched| watched.id == stream.id);
        found.expect("every stream of a look is watched")
    }

    /// Silent, although the line is not.
    fn is_stalled(&self, stream: &Stream) -> bool {
        let watched = self.watched(stream);
        let patience_ms = match stream.stage {
            Stage::Opening => UNANSWERED_MS,
            Stage::Receiving => STALLED_MS,
            Stage::Held => return false,
        };
        let others_flow = if self.watched.len() > 1 {
            watched.others_silent_ms <= OTHERS_HEARD_MS && watched.others_bytes >= OTHERS_BYTES_MIN
        } else {
            watched.others_bytes >= OTHERS_BYTES_MIN || !self.ended.is_empty()
        };
        watched.silent_ms >= patience_ms && others_flow
    }

    /// Far slower than the others, with so much before it that another would be there long before.
    fn is_slow(&self, stream: &Stream) -> bool {
        if stream.stage != Stage::Receiving {
            return false;
        }
        let Some(rate) = self.watched(stream).bytes_per_s(WINDOW_MS) else { return false };
        let Some(usual) = self.usual_bytes_per_s(stream.id) else { return false };
        if rate.saturating_mul(SLOW_FACTOR) >= usual {
            return false;
        }
        let need_ms = |bytes: u64, rate: u64| bytes.saturating_mul(1000) / rate.max(1);
        need_ms(stream.left_bytes, rate) > 2 * (START_MS + need_ms(stream.again_bytes, usual))
    }

    /// The median of the others, of two the slower one.
    fn usual_bytes_per_s(&self, id: u64) -> Option<u64> {
        let others = self.watched.iter().filter(|watched| watched.id != id);
        let running = others.filter_map(|watched| watched.bytes_per_s(MEASURED_MS));
        let mut rates: Vec<u64> = running.chain(self.ended.iter().map(|(_, rate)| *rate)).collect();
        rates.sort_unstable();
        rates.get(rates.len().checked_sub(1)? / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const LOOK_MS: u64 = 250;
    const PIECE_BYTES: u64 = 16 * MIB;

    /// Streams that flow at given rates; one that is given up is taken out, as if its replacement were another file's.
    struct Line {
        stragglers: Stragglers,
        streams: Vec<Stream>,
        gone_bytes: u64,
    }

    impl Line {
        fn new(count: u64) -> Self {
            let streams = (0..count).map(|id| Stream {
                id,
                stage: Stage::Receiving,
                received_bytes: 0,
                left_bytes: 1 << 40,
                again_bytes: PIECE_BYTES,
            });
            Self { stragglers: Stragglers::new(), streams: streams.collect(), gone_bytes: 0 }
        }

        fn pass(&mut self, ms: u64, bytes_per_s: impl Fn(u64) -> u64) -> Vec<(u64, u64)> {
            let mut given_up = Vec::new();
            for look in 1..=ms / LOOK_MS {
                for stream in &mut self.streams {
                    stream.received_bytes += bytes_per_s(stream.id) * LOOK_MS / 1000;
                }
                let total_bytes: u64 = self.streams.iter().map(|stream| stream.received_bytes).sum();
                let ids = self.stragglers.look(LOOK_MS, self.gone_bytes + total_bytes, &self.streams);
                given_up.extend(ids.iter().map(|id| (*id, look * LOOK_MS)));
                for stream in self.streams.extract_if(.., |stream| ids.contains(&stream.id)) {
                    self.gone_bytes += stream.received_bytes;
                }
            }
            given_up
        }
    }

    #[test]
    fn who_stands_still_or_crawls_is_replaced_in_time() {
        let fast = 2 * MIB;
        let cases: [(&str, u64, u64, Option<u64>); 7] = [
            ("as the others", 4, fast, None),
            ("a quarter of the others", 4, fast / 4, None),
            ("a tenth of the others", 4, fast / 10, Some(WINDOW_MS)),
            ("crawls", 8, 20 << 10, Some(WINDOW_MS)),
            ("stalls", 8, 0, Some(STALLED_MS)),
            ("crawls beside a single other", 2, 20 << 10, Some(WINDOW_MS)),
            ("stalls alone", 1, 0, None),
        ];
        for (what, count, rate, replaced_ms) in cases {
            let mut line = Line::new(count);
            let given_up = line.pass(20_000, |id| if id == 0 { rate } else { fast });
            match replaced_ms {
                None => assert_eq!(given_up, [], "{what}"),
                Some(ms) => {
                    assert_eq!(given_up.len(), 1, "{what}: {given_up:?}");
                    let (id, at_ms) = given_up[0];
                    assert!(id == 0 && (ms..=ms + 2 * LOOK_MS).contains(&at_ms), "{what} at {at_ms}");
                }
            }
        }
    }

    #[test]
    fn a_line_that_is_dead_or_slow_for_all_replaces_nobody() {
        for rate in [0, 1 << 10, 30 << 10] {
            assert_eq!(Line::new(8).pass(60_000, |_| rate), [], "{rate} bytes a second each");
        }
        let mut line = Line::new(8);
        assert_eq!(line.pass(10_000, |_| 4 * MIB), []);
        assert_eq!(line.pass(60_000, |_| 0), [], "it died");
    }

    #[test]
    fn the_last_stream_is_measured_by_those_that_ended_and_only_once() {
        for (rate, replaced) in [(20 << 10, 1), (0, 1), (MIB, 0)] {
            let mut line = Line::new(1);
            line.stragglers.look(LOOK_MS, 0, &line.streams);
            (0..5).for_each(|_| line.stragglers.ended(16 * MIB, 4_000));
            assert_eq!(line.pass(10_000, |_| rate).len(), replaced, "{rate} bytes a second");
            let mut again = Line { streams: Line::new(1).streams, ..line };
            assert_eq!(again.pass(10_000, |_| rate), [], "the past was used");
        }
    }

    #[test]
    fn after_a_rest_the_past_tells_nothing() {
        let mut line = Line::new(1);
        (0..5).for_each(|_| line.stragglers.ended(16 * MIB, 4_000));
        line.stragglers.begin();
        assert_eq!(line.pass(10_000, |_| 20 << 10), []);
    }

    #[test]
    fn nearly_done_is_left_to_end() {
        let mut line = Line::new(4);
        line.streams[0].left_bytes = 30 << 10;
        assert_eq!(line.pass(10_000, |id| if id == 0 { 20 << 10 } else { 2 * MIB }), []);
    }

    #[test]
    fn an_answer_has_more_time_to_begin_and_waiting_for_the_disk_is_no_silence() {
        for (stage, replaced_ms) in [(Stage::Opening, Some(UNANSWERED_MS)), (Stage::Held, None)] {
            let mut line = Line::new(4);
            line.streams[0].stage = stage;
            let given_up = line.pass(10_000, |id| if id == 0 { 0 } else { MIB });
            let at_ms = given_up.first().map(|(_, at_ms)| *at_ms);
            match replaced_ms {
                Some(ms) => {
                    assert!(at_ms.is_some_and(|at| (ms..=ms + 2 * LOOK_MS).contains(&at)), "{stage:?} {at_ms:?}")
                }
                None => assert_eq!(at_ms, None, "{stage:?}"),
            }
        }
    }

    proptest! {
        /// However the rates differ by less than the factor, and whatever the jitter, nobody is replaced.
        #[test]
        fn an_uneven_line_is_not_churned(
            base_kib in 1..4096u64,
            shares in prop::collection::vec(2..8u64, 2..12),
            looks in 1..200u64,
        ) {
            let mut line = Line::new(shares.len() as u64);
            let rate = |id: u64| (base_kib << 10) * shares[usize::try_from(id).expect("small")] / 8;
            prop_assert_eq!(line.pass(looks * LOOK_MS, rate), []);
        }

        /// Whatever streams do, replacements are bounded by the bytes that came.
        #[test]
        fn replacements_are_paid_for(rates in prop::collection::vec(prop::collection::vec(0..8 * MIB, 8), 1..120)) {
            let mut stragglers = Stragglers::new();
            let (mut received, mut replaced, mut next_id) = ([0u64; 8], 0u64, 8);
            let mut ids: Vec<u64> = (0..8).collect();
            let mut total_bytes = 0;
            for rates in rates {
                let mut streams = Vec::new();
                for (index, rate) in rates.iter().enumerate() {
                    // Half of the streams give nothing.
                    let bytes = if rate % 2 == 0 { 0 } else { *rate };
                    received[index] += bytes;
                    total_bytes += bytes;
                    let (stage, id) = (Stage::Receiving, ids[index]);
                    let (left_bytes, again_bytes) = (1 << 40, PIECE_BYTES);
                    streams.push(Stream { id, stage, received_bytes: received[index], left_bytes, again_bytes });
                }
                for id in stragglers.look(1000, total_bytes, &streams) {
                    let index = ids.iter().position(|known| *known == id).expect("one of those that run");
                    (ids[index], received[index]) = (next_id, 0);
                    (next_id, replaced) = (next_id + 1, replaced + 1);
                }
                prop_assert!(replaced <= u64::from(SPARE_START) + total_bytes / SPARE_BYTES);
            }
        }
    }
}
