// Reads the answer along that is being written in a chat, and keeps the marks of chats in step with what is written.
// The page is the same without it: a form stops the answer, and the answer is there after a reload.
"use strict";
(() => {
  const PATH = "/api/chat";
  const LOOK = 3000; // milliseconds between two looks at what is being written
  const RETRY = 1500; // and before a line that broke is opened anew
  const chat = document.querySelector("[data-chat]")?.dataset.chat;
  const item = document.querySelector("[data-stream]");

  const live = async () => {
    const answer = await fetch(`${PATH}/streams`);
    if (!answer.ok) throw new Error(answer.statusText);
    return (await answer.json()).streams;
  };

  const untouched = () => {
    const typed = [...document.querySelectorAll("textarea")].some((field) => field.value !== field.defaultValue);
    return !typed && ![...document.querySelectorAll("input[type=file]")].some((field) => field.files.length);
  };

  function follow() {
    const { stream, endings } = item.dataset;
    const [words, state, ending, form] = [".words", ".state", ".ending", "form"].map((name) => item.querySelector(name));
    const said = JSON.parse(endings);
    let line, over = false;

    const grow = (place, text) => {
      const end = item.getBoundingClientRect().bottom;
      const seen = end <= innerHeight + 8;
      place.append(text);
      if (seen && item.getBoundingClientRect().bottom > innerHeight) item.scrollIntoView({ block: "end" });
    };

    const clear = () => { words.textContent = ""; ending.textContent = ""; };

    const close = (how) => {
      over = true;
      line.close();
      form.remove();
      item.classList.remove("live");
      state.textContent = "just now";
      state.className = "";
      if (how !== "done") {
        ending.textContent = [said[how] ?? "The answer broke off.", ending.textContent].filter(Boolean).join(" ");
        ending.hidden = false;
      }
      look();
    };

    const open = () => {
      clear();
      line = new EventSource(`${PATH}/${chat}/stream`);
      line.addEventListener("message", (event) => {
        if (!event.lastEventId.startsWith(`${stream}:`)) { line.close(); location.reload(); return; } // another answer
        const { text, problem } = JSON.parse(event.data);
        if (text) grow(words, text);
        if (problem) ending.append(problem);
      });
      line.addEventListener("reset", clear);
      line.addEventListener("end", (event) => close(JSON.parse(event.data).state));
      line.addEventListener("error", () => { if (line.readyState === EventSource.CLOSED && !over) setTimeout(again, RETRY); });
    };

    // The line was refused: nothing is written any more, and the answer is kept; or nobody can tell now.
    const again = async () => {
      try {
        const found = await live();
        if (found.some((one) => one.streamId === stream)) open();
        else location.reload();
      } catch {
        setTimeout(again, RETRY);
      }
    };

    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      button.disabled = true;
      button.textContent = "Stopping…";
      try {
        const body = JSON.stringify({ streamId: stream });
        const answer = await fetch(`${PATH}/${chat}/stop`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
        if (!answer.ok && answer.status !== 404) throw new Error(answer.statusText);
      } catch {
        form.submit();
      }
    });

    open();
  }

  async function look() {
    if (document.visibilityState !== "visible") return;
    try {
      const found = await live();
      const busy = new Set(found.map((one) => one.chat));
      for (const mark of document.querySelectorAll("[data-mark]")) mark.hidden = !busy.has(mark.dataset.mark);
      const here = found.find((one) => one.chat === chat);
      if (here && here.streamId !== item?.dataset.stream && untouched()) location.reload();
    } catch {
      // Nobody can tell now: the marks stay as they are until the next look.
    }
  }

  if (item) follow();
  if (document.querySelector("[data-mark]")) {
    setInterval(look, LOOK);
    document.addEventListener("visibilitychange", look);
  }
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
