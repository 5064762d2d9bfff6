// Which curves there are: one entry a chart, its series by their names in the run's metrics.

export const CHARTS = [
  {
    title: "success of 20",
    series: ["success_20", "autonomous_success_20"],
    names: ["all", "alone"],
    range: [0, 1.02],
    isPercent: true,
  },
  { title: "interventions, last 20 episodes", series: ["intervention_rate_20"], range: [0, 1.02], isPercent: true },
  { title: "cycle time (s)", series: ["cycle_time_s_20"] },
  { title: "Q", series: ["q_mean", "target_q_mean"], names: ["mean", "target"] },
  { title: "spread of the critics", series: ["q_std"] },
  { title: "entropy", series: ["entropy"] },
  { title: "temperature", series: ["temperature"] },
  { title: "losses", series: ["critic_loss", "policy_loss"], names: ["critic", "policy"] },
  { title: "updates/s", series: ["updates_per_s"] },
  { title: "UTD debt", series: ["debt"] },
  { title: "buffers", series: ["online_transitions", "demo_transitions"], names: ["online", "demos"] },
  { title: "transport", series: ["received", "duplicate", "rejected"] },
  { title: "skipped updates", series: ["skipped"] },
  { title: "loop rate (Hz)", series: ["loop_hz"] },
];

export const WANTED = new Set(CHARTS.flatMap((chart) => chart.series));
