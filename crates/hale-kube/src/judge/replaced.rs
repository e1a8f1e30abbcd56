//! Which Failed pods still matter: one that its controller has replaced counts until the replacement is ready (K7).

use jiff::SignedDuration;

use super::pod::Seen;

/// The Failed pods of one controller that count. `enough` is whether as many of its pods are ready as it should have.
///
/// A pod is replaced by the first one that was made after it failed and that replaces no other. When that one failed in
/// turn before it was ever ready, its own replacement is what is waited for.
pub(super) fn counting<'p, 's>(pods: &'p [&'p Seen<'s>], enough: bool) -> Vec<&'p Seen<'s>> {
    if enough {
        return Vec::new();
    }
    let name = |it: &Seen<'_>| it.pod.meta.name.clone();
    let mut failed: Vec<usize> =
        (0..pods.len()).filter(|it| pods[*it].failed && !pods[*it].leaving).collect();
    failed.sort_by_key(|it| (pods[*it].failed_at(), name(pods[*it])));
    let mut made: Vec<usize> = (0..pods.len()).filter(|it| !pods[*it].leaving).collect();
    made.sort_by_key(|it| (pods[*it].pod.meta.created, name(pods[*it])));

    let mut taken = vec![false; pods.len()];
    let mut replacement = vec![None; pods.len()];
    for one in &failed {
        let Some(at) = pods[*one].failed_at() else { continue };
        let next = made.iter().copied().find(|next| {
            // Times are told in whole seconds.
            let later = pods[*next]
                .pod
                .meta
                .created
                .is_some_and(|it| it.duration_since(at) >= SignedDuration::from_secs(-1));
            !taken[*next] && next != one && later
        });
        if let Some(next) = next {
            taken[next] = true;
            replacement[*one] = Some(next);
        }
    }
    failed.into_iter().filter(|one| waits(pods, &replacement, *one)).map(|one| pods[one]).collect()
}

/// Follows replacements to the first that was ever ready, or is still to be.
fn waits(pods: &[&Seen<'_>], replacement: &[Option<usize>], from: usize) -> bool {
    let mut at = from;
    // No longer way than there are pods, whatever their times say.
    for _ in 0..pods.len() {
        let Some(next) = replacement[at] else { return true };
        if pods[next].was_ready || pods[next].done {
            return false;
        }
        if !pods[next].failed {
            return true;
        }
        at = next;
    }
    true
}
