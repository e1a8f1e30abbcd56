//! What is found on one pod or workload, before it is put together.

/// One thing that is not as it should be, or not yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// The condition (K6); none when something only takes its time.
    pub(super) condition: Option<String>,
    /// What it is about, without the pod: `container web`, or nothing.
    pub(super) part: String,
    /// The pod, where it is about one.
    pub(super) pod: Option<String>,
    /// In words.
    pub(super) says: String,
}

impl Finding {
    /// A condition of a pod, or of one of its containers.
    pub(super) fn new(
        condition: impl Into<String>,
        part: impl Into<String>,
        says: impl Into<String>,
    ) -> Self {
        Self { condition: Some(condition.into()), part: part.into(), pod: None, says: says.into() }
    }

    /// Something that takes its time, and may.
    pub(super) fn progress(part: impl Into<String>, says: impl Into<String>) -> Self {
        Self { condition: None, part: part.into(), pod: None, says: says.into() }
    }

    /// Of that pod.
    pub(super) fn of(mut self, pod: &str) -> Self {
        self.pod = Some(pod.to_owned());
        self
    }

    /// Whether it is more than taking its time.
    pub(super) fn degrades(&self) -> bool {
        self.condition.is_some()
    }
}

/// Findings in words, alike ones together: `CrashLoopBackOff: container api of api-1 and 1 more: back-off 40s …`.
pub(super) fn in_words(findings: &[Finding]) -> Vec<String> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort();
    sorted.dedup();
    sorted
        .chunk_by(|a, b| a.condition == b.condition && a.part == b.part && a.pod.is_some() && b.pod.is_some())
        .map(|alike| {
            let first = alike[0];
            let condition = first.condition.as_deref().unwrap_or(super::PROGRESSING);
            let mut pods: Vec<&str> = alike.iter().filter_map(|it| it.pod.as_deref()).collect();
            pods.sort_unstable();
            pods.dedup();
            let mut whom = first.part.clone();
            if let Some(pod) = pods.first() {
                whom += if whom.is_empty() { "pod " } else { " of " };
                whom += pod;
            }
            if pods.len() > 1 {
                whom += &format!(" and {} more", pods.len() - 1);
            }
            let what = [condition, whom.as_str(), first.says.as_str()];
            what.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(": ")
        })
        .collect()
}
