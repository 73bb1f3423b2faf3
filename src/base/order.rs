//! Lists in order. The standard library's sort is written out anew for every type and every key, some
//! 5 KiB each; here only what compares is, and the order itself is found in one place.

use std::cmp::Ordering;

/// Sorts by a key; what has the same key keeps its order.
pub fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    let order = found(items.len(), &|a, b| key(&items[a]).cmp(&key(&items[b])));
    put(items, order);
}

/// Sorts from the smallest to the largest.
pub fn ascending<T: Ord>(items: &mut [T]) {
    let order = found(items.len(), &|a, b| items[a].cmp(&items[b]));
    put(items, order);
}

/// Which item comes first, which second, and so on.
fn found(length: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    order.sort_by(|a, b| compare(*a, *b));
    order
}

/// Puts `order[n]` at place `n`.
fn put<T>(items: &mut [T], mut order: Vec<usize>) {
    for start in 0..order.len() {
        let mut at = start;
        while order[at] != start {
            let from = std::mem::replace(&mut order[at], at);
            items.swap(at, from);
            at = from;
        }
        order[at] = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_standard_library_does_it(list in prop::collection::vec((0_u8..9, any::<u16>()), 0..200)) {
            let (mut ours, mut theirs) = (list.clone(), list.clone());
            by_key(&mut ours, |(key, _)| *key);
            theirs.sort_by_key(|(key, _)| *key);
            prop_assert_eq!(&ours, &theirs);
            let (mut ours, mut theirs) = (list.clone(), list);
            ascending(&mut ours);
            theirs.sort_unstable();
            prop_assert_eq!(ours, theirs);
        }
    }
}
