/* On a sign-up page that another site shows in a frame: tell that site how tall the page is, so that nothing scrolls in it. */
if (window.parent !== window) {
  const tell = () => window.parent.postMessage({ asapp: "height", height: document.documentElement.scrollHeight }, "*");
  new ResizeObserver(tell).observe(document.body);
}
