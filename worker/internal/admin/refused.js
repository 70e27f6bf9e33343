// asynqmon's page says nothing when an action fails. This shows the sentence with which this server refuses one.
(function () {
  "use strict";
  var send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function () {
    this.addEventListener("load", function () {
      if (this.status === 403) {
        show(this.responseText);
      }
    });
    return send.apply(this, arguments);
  };
  function show(sentence) {
    var box = document.getElementById("refused");
    if (!box) {
      box = document.createElement("div");
      box.id = "refused";
      box.setAttribute("role", "alert");
      box.title = "Click to close";
      box.style.cssText = "position:fixed;left:50%;bottom:24px;transform:translateX(-50%);z-index:9999;max-width:44rem;padding:12px 16px;" +
        "border:1px solid #e0c060;border-radius:4px;background:#fff3cd;color:#222;font:15px/1.5 system-ui,sans-serif;cursor:pointer";
      box.onclick = function () { box.remove(); };
      document.body.appendChild(box);
    }
    box.textContent = sentence;
  }
})();
