// A front end of the AI SDK's, without a browser's window: a component with `useChat` that says what it shows.
// Usage: node use_chat.mjs URL CHAT send|resume, beside a folder node_modules that has what it imports.
import { JSDOM } from "jsdom";

const [url, id, verb] = process.argv.slice(2);
const { window } = new JSDOM("<div id=root></div>", { url, pretendToBeVisual: true });
Object.assign(globalThis, { window, document: window.document, navigator: window.navigator });
const { createElement, useEffect } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useChat } = await import("@ai-sdk/react");
const { DefaultChatTransport } = await import("ai");

const say = (told) => process.stdout.write(JSON.stringify(told) + "\n");
const transport = new DefaultChatTransport({ api: `${url}/api/chat` });
let begun = false;

function Chat() {
  const { messages, status, error, sendMessage } = useChat({ id, transport, resume: verb === "resume" });
  useEffect(() => { if (verb === "send") sendMessage({ text: "Tell me." }); }, []);
  useEffect(() => {
    begun ||= status !== "ready";
    const answer = messages.filter((one) => one.role === "assistant").at(-1);
    const text = (answer?.parts ?? []).filter((one) => one.type === "text").map((one) => one.text).join("");
    say({ status, text, error: error?.message ?? null });
    if (begun && (status === "ready" || status === "error")) setTimeout(() => process.exit(0), 50);
  }, [messages, status, error]);
  return null;
}

createRoot(document.getElementById("root")).render(createElement(Chat));
setTimeout(() => process.exit(0), 15000);
