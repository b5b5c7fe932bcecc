//! The rules of this moment: the built-in ones with those of the user, read anew when the user changed them.
//!
//! Invariants: whoever asks gets one whole set, which never changes under it; rules that cannot be read leave the last
//! ones in force. The lock is held for memory only. Not here: what a rule says (`classify`), rows (`catalog`).

use super::LibraryError;
use crate::catalog::{Catalog, RulesStamp};
use crate::classify::{CONFIDENCE_MIN, Rules, UserRule};
use std::mem;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A set of rules; `None` stands for the built-in ones alone.
#[derive(Clone)]
pub(super) struct CurrentRules(Option<Arc<Rules>>);

impl CurrentRules {
    /// Without a user's, for whom an answer must be this sure.
    pub(super) fn builtin(confidence_min: f32) -> Self {
        rules_of(&[], confidence_min)
    }
}

impl Deref for CurrentRules {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        self.0.as_deref().unwrap_or_else(|| Rules::builtin())
    }
}

struct Known {
    stamp: Option<RulesStamp>,
    user: Vec<UserRule>,
    rules: CurrentRules,
    /// Told already that they cannot be read: an import asks for each file.
    is_told: bool,
}

pub(super) struct LiveRules {
    confidence_min: f32,
    known: Mutex<Known>,
}

impl LiveRules {
    pub(super) fn open(catalog: &Catalog, confidence_min: f32) -> Result<Self, LibraryError> {
        // The stamp first: what is written meanwhile is read the next time.
        let stamp = catalog.rules_stamp();
        let user = catalog.user_rules()?;
        let rules = rules_of(&user, confidence_min);
        Ok(Self { confidence_min, known: Mutex::new(Known { stamp, user, rules, is_told: false }) })
    }

    /// Costs a look at two files when nothing changed.
    pub(super) fn now(&self, catalog: &Catalog) -> CurrentRules {
        let stamp = catalog.rules_stamp();
        {
            let known = self.known();
            if known.stamp == stamp {
                return known.rules.clone();
            }
        }
        let user = match catalog.user_rules() {
            Ok(user) => user,
            Err(error) => {
                let (is_news, rules) = {
                    let mut known = self.known();
                    (!mem::replace(&mut known.is_told, true), known.rules.clone())
                };
                if is_news {
                    tracing::warn!("the rules of classification.db stay as they were: {}", error.fault().what);
                }
                return rules;
            }
        };
        let is_changed = self.known().user != user;
        let rules = is_changed.then(|| rules_of(&user, self.confidence_min));
        let mut known = self.known();
        // Where another one was faster, the older stamp has the newer rows read once more.
        (known.stamp, known.is_told) = (stamp, false);
        if let Some(rules) = rules {
            (known.user, known.rules) = (user, rules);
        }
        known.rules.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows that cannot be used are left out and named; `doctor` names them too.
fn rules_of(user: &[UserRule], confidence_min: f32) -> CurrentRules {
    if user.is_empty() && confidence_min == CONFIDENCE_MIN {
        return CurrentRules(None);
    }
    let (rules, bad) = Rules::with_user(user);
    for rule in bad {
        tracing::warn!("a rule in classification.db is left out: {}: {}", rule.place, rule.reason);
    }
    CurrentRules(Some(Arc::new(rules.needing(confidence_min))))
}
