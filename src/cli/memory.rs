//! How much memory the allocator of a mount keeps for itself.
//!
//! Not here: what the engine's buffers add up to (`fetch::slots`).

/// Pools of the allocator. By itself it has eight for each processor, and each keeps what its threads gave back: the buffers
/// of all streams and hashes, many times over. A few do, as what is allocated here is large and seldom.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 4;

/// Of a process that stays. To be called before it has threads.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it sets a number of the allocator, under the allocator's own lock.
        let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) };
        if set == 0 {
            tracing::debug!("the allocator keeps the number of its pools");
        }
    }
}
