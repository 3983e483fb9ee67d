//! The hash table for look-ups that every call makes.

use std::collections::HashMap;

/// A hash table that is found in quickly. Its hash is seeded at random but, unlike the standard
/// one, no proof against somebody who can choose many keys and time the look-ups: keys come from
/// the configuration or from callers that proved who they are.
pub type Table<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
