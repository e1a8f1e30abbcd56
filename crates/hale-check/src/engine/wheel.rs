//! A hashed timer wheel (Varghese and Lauck, 1987), without a clock.
//!
//! One timer per entry, named by a small number that the caller gives. Setting, unsetting and firing cost the same
//! however many there are: 16 bytes and a few memory accesses each. Time is in ticks; what fires together in a tick
//! is the batching that H10 allows.

/// No entry.
const NONE: u32 = u32::MAX;

/// Slots of the wheel; a timer further ahead goes around more than once.
const SLOTS: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Node {
    tick: u64,
    next: u32,
    prev: u32,
}

/// Not set.
const UNSET: Node = Node { tick: u64::MAX, next: NONE, prev: NONE };

/// The timers of a shard.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Box<[u32]>,
    /// One bit per slot that may hold something.
    occupied: Box<[u64]>,
    nodes: Vec<Node>,
    now: u64,
    len: usize,
}

impl Wheel {
    /// An empty wheel at tick 0.
    pub(super) fn new() -> Self {
        Self {
            heads: vec![NONE; SLOTS].into(),
            occupied: vec![0; SLOTS / 64].into(),
            nodes: Vec::new(),
            now: 0,
            len: 0,
        }
    }

    /// Sets the timer of an entry, in place of the one it has. A tick that has passed fires at the next advance.
    pub(super) fn set(&mut self, entry: u32, tick: u64) {
        self.unset(entry);
        if self.nodes.len() <= entry as usize {
            self.nodes.resize(entry as usize + 1, UNSET);
        }
        let tick = tick.max(self.now + 1);
        let slot = slot(tick);
        let head = self.heads[slot];
        self.nodes[entry as usize] = Node { tick, next: head, prev: NONE };
        if head != NONE {
            self.nodes[head as usize].prev = entry;
        }
        self.heads[slot] = entry;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
    }

    /// Takes the timer of an entry away, if it has one.
    pub(super) fn unset(&mut self, entry: u32) {
        let Some(node) = self.nodes.get(entry as usize).copied().filter(|it| it.tick != u64::MAX) else {
            return;
        };
        match node.prev {
            NONE => self.heads[slot(node.tick)] = node.next,
            prev => self.nodes[prev as usize].next = node.next,
        }
        if node.next != NONE {
            self.nodes[node.next as usize].prev = node.prev;
        }
        if self.heads[slot(node.tick)] == NONE {
            self.occupied[slot(node.tick) / 64] &= !(1 << (slot(node.tick) % 64));
        }
        self.nodes[entry as usize] = UNSET;
        self.len -= 1;
    }

    /// Moves to a tick and appends the entries whose timers fired on the way, the earlier ticks first. They are
    /// unset.
    pub(super) fn advance(&mut self, to: u64, fired: &mut Vec<u32>) {
        while self.now < to {
            // Ticks without anything are stepped over 64 at a time.
            match self.next() {
                Some(tick) if tick <= to => self.now = tick,
                _ => {
                    self.now = to;
                    return;
                }
            }
            let mut entry = self.heads[slot(self.now)];
            while entry != NONE {
                let node = self.nodes[entry as usize];
                if node.tick <= self.now {
                    self.unset(entry);
                    fired.push(entry);
                }
                entry = node.next;
            }
        }
    }

    /// The earliest tick at which something may fire; never later than the first that does. `None`: nothing is set.
    pub(super) fn next(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let from = slot(self.now + 1);
        // The word of the first slot is looked at twice: its later bits first, its earlier ones after the turn.
        for step in 0..=self.occupied.len() {
            let word = (from / 64 + step) % self.occupied.len();
            let mask = match step {
                0 => u64::MAX << (from % 64),
                _ => u64::MAX,
            };
            let bits = self.occupied[word] & mask;
            if bits != 0 {
                let found = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (found + SLOTS - from) % SLOTS;
                return Some(self.now + 1 + ahead as u64);
            }
        }
        None
    }
}

const fn slot(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Set(u32, u64),
        Unset(u32),
        Advance(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let ahead = prop_oneof![0_u64..20, 0_u64..300, 0_u64..3 * SLOTS as u64];
        prop_oneof![
            (0_u32..40, ahead.clone()).prop_map(|(entry, ahead)| Op::Set(entry, ahead)),
            (0_u32..40).prop_map(Op::Unset),
            ahead.prop_map(Op::Advance),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_does_what_a_sorted_list_does(ops in prop::collection::vec(op(), 1..200)) {
            let mut wheel = Wheel::new();
            let mut naive: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for op in ops {
                match op {
                    Op::Set(entry, ahead) => {
                        wheel.set(entry, now + ahead);
                        naive.insert(entry, (now + ahead).max(now + 1));
                    }
                    Op::Unset(entry) => {
                        wheel.unset(entry);
                        naive.remove(&entry);
                    }
                    Op::Advance(by) => {
                        now += by;
                        let mut fired = Vec::new();
                        wheel.advance(now, &mut fired);
                        let ticks: Vec<u64> = fired.iter().map(|it| naive[it]).collect();
                        prop_assert!(ticks.is_sorted(), "earlier ticks first");
                        let mut expected: Vec<u32> = Vec::new();
                        naive.retain(|entry, tick| {
                            if *tick <= now {
                                expected.push(*entry);
                            }
                            *tick > now
                        });
                        fired.sort_unstable();
                        prop_assert_eq!(fired, expected);
                    }
                }
                prop_assert_eq!(wheel.len, naive.len());
                match (wheel.next(), naive.values().min()) {
                    (None, None) => {}
                    (Some(next), Some(first)) => {
                        prop_assert!(next > now && next <= *first);
                        if *first - now <= SLOTS as u64 {
                            // Within one turn only an entry of a later turn can make it wake early.
                            prop_assert!(next == *first || naive.values().any(|it| slot(*it) == slot(next)));
                        }
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }

    #[test]
    fn a_timer_many_turns_ahead_fires_once_and_at_its_tick() {
        let mut wheel = Wheel::new();
        let mut fired = Vec::new();
        let tick = 5 * SLOTS as u64 + 3;
        wheel.set(7, tick);
        wheel.advance(tick - 1, &mut fired);
        assert!(fired.is_empty());
        wheel.advance(tick, &mut fired);
        assert_eq!(fired, [7]);
        assert_eq!(wheel.next(), None);
    }
}
