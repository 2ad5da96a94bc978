// What a web page can try on a server at `target`, with the frames (base64) of a client that has a stolen token.
// Gives what came of each try, in words.
async (target, frames, token) => {
  const bytes = frames.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
  const url = (path) => `http://${target}${path}`;
  const patience = (promise) =>
    Promise.race([promise, new Promise((done) => setTimeout(done, 10000, "silence"))]);

  const socket = () =>
    new Promise((done) => {
      const ws = new WebSocket(`ws://${target}/rpc`);
      ws.binaryType = "arraybuffer";
      ws.onopen = () => bytes.forEach((frame) => ws.send(frame));
      ws.onmessage = () => done("answered");
      ws.onerror = ws.onclose = () => done("refused");
    });

  const ask = async (path, options) => {
    try {
      const response = await fetch(url(path), options);
      return `${response.type} ${response.status}`;
    } catch {
      return "refused";
    }
  };

  const element = (name, attributes) =>
    new Promise((done) => {
      const made = Object.assign(document.createElement(name), attributes);
      made.onload = () => done("loaded");
      made.onerror = () => done("refused");
      document.documentElement.append(made);
    });

  const events = () =>
    new Promise((done) => {
      const source = new EventSource(url("/rpc"));
      source.onopen = () => done("opened");
      source.onerror = () => (source.close(), done("refused"));
    });

  const form = async () => {
    const arrived = element("iframe", { name: "answer" });
    await arrived;
    const made = Object.assign(document.createElement("form"), {
      method: "POST", enctype: "text/plain", target: "answer", action: url("/rpc"),
    });
    made.append(Object.assign(document.createElement("textarea"), { name: "x", value: atob(frames[0]) }));
    document.documentElement.append(made);
    const frame = document.querySelector("iframe");
    const answered = new Promise((done) => (frame.onload = done));
    made.submit();
    await answered;
    try {
      return `read ${frame.contentDocument.body.innerText}`;
    } catch {
      return "unreadable";
    }
  };

  const authorization = { Authorization: `Bearer ${token}` };
  const tries = { socket: socket(), events: events(), form: form() };
  for (const path of ["/", "/rpc", "/healthz"]) {
    tries[`script ${path}`] = element("script", { src: url(path) });
    tries[`cors GET ${path}`] = ask(path, { mode: "cors" });
    tries[`token GET ${path}`] = ask(path, { mode: "cors", headers: authorization });
    tries[`cors POST ${path}`] = ask(path, { mode: "cors", method: "POST", body: bytes[0] });
    tries[`token POST ${path}`] =
      ask(path, { mode: "cors", method: "POST", headers: authorization, body: bytes[0] });
    tries[`blind GET ${path}`] = ask(path, { mode: "no-cors", credentials: "include" });
    tries[`blind POST ${path}`] = ask(path, { mode: "no-cors", method: "POST", body: bytes[0] });
  }
  const names = Object.keys(tries);
  const found = await Promise.all(names.map((name) => patience(tries[name])));
  return Object.fromEntries(names.map((name, i) => [name, found[i]]));
}
