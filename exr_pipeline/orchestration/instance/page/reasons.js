// Shows on the page of a partition why its latest attempt made nothing. Dagster has no place for it there: it shows
// metadata of what was made, and of an attempt that made nothing only that its run failed. And leads to all failures.
"use strict";
(() => {
  const QUERY = `query($key: AssetKeyInput!, $partitions: [String!]) {
    assetOrError(assetKey: $key) { ... on Asset {
      assetMaterializations(partitions: $partitions, limit: 1) { timestamp }
      assetObservations(partitions: $partitions, limit: 1) {
        timestamp description metadataEntries { label } } } } }`;
  const SECONDS_BETWEEN_QUESTIONS = 4;
  const box = document.createElement("div");
  box.id = "exr-pipeline-reason";
  box.setAttribute("role", "alert");
  Object.assign(box.style, {
    display: "none", position: "fixed", zIndex: 10, bottom: "24px", right: "24px", boxSizing: "border-box",
    width: "min(860px, calc(100vw - 48px))", maxHeight: "40vh", overflow: "auto", padding: "12px 16px",
    background: "#fbe9e7", color: "#7f1d1d", borderLeft: "4px solid #c62828", borderRadius: "4px",
    boxShadow: "0 2px 12px rgba(0, 0, 0, 0.25)", font: "14px/1.5 sans-serif", overflowWrap: "anywhere",
    whiteSpace: "pre-wrap",
  });
  const link = document.createElement("a");
  link.href = "/failures";
  link.textContent = "\u26a0 Failures";
  Object.assign(link.style, {
    position: "fixed", zIndex: 10, bottom: "172px", left: "28px", padding: "2px 0", color: "inherit",
    font: "14px/1.5 sans-serif", textDecoration: "none",
  });
  let shownFor = "";
  let asked = 0;

  function show(text) {
    box.textContent = text;
    box.style.display = text ? "block" : "none";
  }

  function shownPartition() {
    const asset = /^\/assets\/(.+)$/.exec(location.pathname);
    const partition = new URLSearchParams(location.search).get("partition");
    return asset && partition ? { path: asset[1].split("/").map(decodeURIComponent), partition } : null;
  }

  async function reasonOf({ path, partition }) {
    const answer = await fetch("/graphql", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query: QUERY, variables: { key: { path }, partitions: [partition] } }),
    });
    const asset = (await answer.json()).data.assetOrError;
    const [failure] = asset.assetObservations ?? [];
    const [made] = asset.assetMaterializations ?? [];
    const tells = failure?.metadataEntries.some((entry) => entry.label === "reason");
    return tells && Number(failure.timestamp) > Number(made?.timestamp ?? 0) ? failure.description : "";
  }

  async function look() {
    const shown = shownPartition();
    const now = shown ? JSON.stringify(shown) : "";
    if (now !== shownFor) {
      shownFor = now;
      asked = 0;
      show("");
    }
    if (!shown || document.hidden || Date.now() - asked < SECONDS_BETWEEN_QUESTIONS * 1000) return;
    asked = Date.now();
    try {
      const reason = await reasonOf(shown);
      if (shownFor === now) show(reason);
    } catch {
      // Asked again soon.
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(box, link);
    setInterval(look, 300);
  });
})();
