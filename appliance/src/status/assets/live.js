// Keeps the parts of a page fresh while someone looks at it. Without it, the page reloads itself.
'use strict';

const address = document.body.dataset.stream;
const sign = document.getElementById('live');
// Parts that came while the visitor was using the ones on the page.
const waiting = new Map();
let stream = null;
let again = 0;

function say(text, state) {
  if (sign.textContent !== text) sign.textContent = text;
  sign.className = 'live ' + state;
  sign.hidden = false;
}

// Focus, an open table or marked text would be lost.
function isInUse(part) {
  const marked = document.getSelection();
  return part.contains(document.activeElement)
    || part.querySelector('details[open]') !== null
    || (!marked.isCollapsed && marked.containsNode(part, true));
}

function show() {
  for (const [id, html] of waiting) {
    const part = document.getElementById(id);
    if (part && isInUse(part)) continue;
    if (part) part.innerHTML = html;
    waiting.delete(id);
  }
}

function connect() {
  stream = new EventSource(address);
  stream.addEventListener('part', (message) => {
    const part = JSON.parse(message.data);
    waiting.set(part.id, part.html);
  });
  // Ends every pulse.
  stream.addEventListener('status', () => { show(); say('Live', 'good'); });
  stream.addEventListener('error', () => {
    say('Not live, trying again', 'warn');
    // A browser comes back by itself, unless it was refused.
    if (stream.readyState === EventSource.CLOSED) again = setTimeout(connect, 30000);
  });
}

function rest() {
  clearTimeout(again);
  if (stream) stream.close();
}

// Places are few: none is kept for a page that nobody sees.
document.addEventListener('visibilitychange', () => {
  rest();
  if (!document.hidden) connect();
});
addEventListener('pagehide', rest);
if (!document.hidden) connect();
