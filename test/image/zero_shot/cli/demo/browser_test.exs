defmodule Image.ZeroShot.DemoBrowserTest do
  # The standard error belongs to the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Test.Browser

  alias Image.ZeroShot.CLI.Demo
  alias Image.ZeroShot.Test.Browser

  @moduletag :browser
  @moduletag :tmp_dir

  @flags ["--repo", "embedded", "--device", "cpu", "--port", "0"]

  setup %{tmp_dir: dir} do
    test = self()
    capture_io(:stderr, fn -> send(test, {:started, Demo.start_link(@flags)}) end)
    assert_received {:started, {:ok, server}}
    browser = start_supervised!(%{id: Browser, start: {Browser, :start_link, [dir]}})
    resize(browser, 1440, 1000)
    open(browser, "http://127.0.0.1:#{server.port}/")
    wait(browser, "document.querySelectorAll('#results li').length === 8")
    {:ok, browser: browser, server: server}
  end

  # Whatever the page did: nothing failed, and nothing was asked of anybody else.
  defp in_order!(%{browser: browser, server: server}) do
    assert said(browser) == []
    assert requests(browser) != []

    for url <- requests(browser),
        do: assert(url =~ ~r{\A(http://127\.0\.0\.1:#{server.port}/|blob:|about:blank)})
  end

  defp names(browser) do
    evaluate(
      browser,
      "[...document.querySelectorAll('#results .name')].map((name) => name.textContent)"
    )
  end

  defp wait_for_best(browser, label),
    do:
      wait(browser, "document.querySelector('#results .name')?.textContent === #{inspect(label)}")

  defp wait_for_count(browser, selector, count),
    do: wait(browser, "document.querySelectorAll('#{selector}').length === #{count}")

  # The percents of the best label.
  defp score(browser),
    do: evaluate(browser, "parseFloat(document.querySelector('#results .score').textContent)")

  defp click(browser, selector),
    do: evaluate(browser, "document.querySelector('#{selector}').click()")

  defp enter(browser, selector, text) do
    evaluate(browser, """
    (() => {
      const field = document.querySelector('#{selector}');
      field.value = #{inspect(text)};
      field.dispatchEvent(new Event('input', { bubbles: true }));
    })()
    """)
  end

  # As dropping or pasting does: the browser's own clipboard is not a test's.
  defp hand_over(browser, event, type, member, path) do
    evaluate(browser, """
    (async () => {
      const blob = await (await fetch(#{inspect(path)})).blob();
      const data = new DataTransfer();
      data.items.add(new File([blob], 'handed over.png', { type: blob.type }));
      document.dispatchEvent(new #{event}('#{type}', { #{member}: data, bubbles: true, cancelable: true }));
    })()
    """)
  end

  defp in_strip(browser, name) do
    js =
      "[...document.querySelectorAll('#thumbs button')].find((one) => one.title === #{inspect(name)}).dataset.path"

    evaluate(browser, js)
  end

  test "labels count while they are typed, for a picture that is chosen",
       %{browser: browser} = context do
    choose(browser, "#file", [Path.expand("priv/samples/pizza.webp")])
    wait_for_best(browser, "pizza")
    assert evaluate(browser, "document.querySelector('#picture').naturalWidth > 0")
    assert evaluate(browser, "document.querySelector('#picture').alt") == "pizza.webp"

    click(browser, ~s([aria-label="Remove pizza"]))
    click(browser, ~s([aria-label="Remove dog"]))
    wait_for_count(browser, "#results li", 6)
    refute "pizza" in names(browser)

    # Before Enter.
    evaluate(browser, "document.querySelector('#label').focus()")
    type(browser, "a slice of pizza")
    wait_for_best(browser, "a slice of pizza")
    wait_for_count(browser, "#results .draft", 1)
    assert evaluate(browser, "document.querySelectorAll('.chip').length") == 6

    press(browser, "Enter", 13)
    wait_for_count(browser, ".chip", 7)
    wait_for_count(browser, "#results .draft", 0)
    assert score(browser) > 50

    wait(
      browser,
      "document.querySelector('#said').textContent.startsWith('Best: a slice of pizza')"
    )

    # Several at once, each once; and back into the field with Backspace.
    type(browser, "a hat, a pizza, a hat,")
    wait_for_count(browser, ".chip", 9)
    press(browser, "Backspace", 8)
    wait(browser, "document.querySelector('#label').value === 'a pizza'")
    wait_for_count(browser, ".chip", 8)
    in_order!(context)
  end

  test "a label that is focused, pointed at or pressed shows its part of the picture",
       %{browser: browser} = context do
    evaluate(browser, "document.querySelector('#thumbs button[title=\"dog.jpg\"]').click()")
    wait_for_best(browser, "dog")
    refute mapped?(browser)

    evaluate(browser, "document.querySelector('#results button').focus()")
    wait_for_map(browser, "dog")
    # White says nothing, and what speaks for the label is orange: here the middle.
    [corner, middle] = colours(browser)
    assert Enum.min(corner) > 230
    assert [red, green, blue] = middle
    assert red > green + 30 and green > blue + 30

    evaluate(browser, "document.querySelector('#choose').focus()")
    wait(browser, "!document.querySelector('#frame').classList.contains('mapped')")

    # The mouse, on another label: the same part speaks against it, in blue.
    hover(browser, "#results li:last-child")
    wait_for_map(browser, List.last(names(browser)))
    [_corner, [red, _green, blue]] = colours(browser)
    assert blue > red
    hover(browser, "h1")
    wait(browser, "!document.querySelector('#frame').classList.contains('mapped')")

    # Pressed, it stays, also for another picture and while another label is typed.
    click(browser, "#results button")
    wait_for_map(browser, "dog")
    evaluate(browser, "document.querySelector('#choose').focus()")
    evaluate(browser, "document.querySelector('#label').focus()")
    type(browser, "wolf")
    wait_for_count(browser, "#results .draft", 1)
    wait_for_map(browser, "dog")
    choose(browser, "#file", [Path.expand("priv/samples/again/cat.png")])
    wait_for_best(browser, "cat")
    wait(browser, "document.querySelector('#where').textContent.startsWith('dog: ')")
    press(browser, "Escape", 27)
    wait(browser, "!document.querySelector('#frame').classList.contains('mapped')")
    in_order!(context)
  end

  test "a map is told in words too", %{browser: browser} = context do
    click(browser, "#thumbs button[title=\"together/dog-and-pizza.png\"]")
    wait_for_best(browser, "dog")

    for {label, place} <- [{"dog", "top left"}, {"pizza", "bottom right"}] do
      evaluate(browser, "document.querySelector('#results button[title=\"#{label}\"]').focus()")
      wait_for_map(browser, label)
      words = evaluate(browser, "document.querySelector('#where').textContent")
      assert words =~ "#{label}: most at the #{place}"
    end

    in_order!(context)
  end

  defp mapped?(browser),
    do: evaluate(browser, "document.querySelector('#frame').classList.contains('mapped')")

  # In one condition: while a label is typed, the map goes and comes again.
  defp wait_for_map(browser, label) do
    wait(browser, """
    document.querySelector('#frame').classList.contains('mapped')
      && document.querySelector('#where').textContent.startsWith(#{inspect(label <> ": ")})
      && getComputedStyle(document.querySelector('#map')).visibility === 'visible'
    """)
  end

  # Of the map where the picture's upper left corner is, and its middle.
  defp colours(browser) do
    evaluate(browser, """
    (() => {
      const map = document.querySelector('#map');
      const copy = new OffscreenCanvas(map.width, map.height).getContext('2d', { willReadFrequently: true });
      copy.drawImage(map, 0, 0);
      return [[(map.width - map.height) / 2 + 3, 3], [map.width / 2 + 10, map.height / 2 + 10]]
        .map(([x, y]) => [...copy.getImageData(x, y, 1, 1).data].slice(0, 3));
    })()
    """)
  end

  defp hover(browser, selector) do
    # Rows slide to their places.
    wait(browser, "document.getAnimations().length === 0")

    [x, y] =
      evaluate(browser, """
      (() => {
        const box = document.querySelector('#{selector}').getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
      })()
      """)

    command(browser, "Input.dispatchMouseEvent", %{type: "mouseMoved", x: x, y: y})
  end

  test "template and none of these change the scores, and a reload keeps them",
       %{browser: browser} = context do
    evaluate(browser, "document.querySelector('#thumbs button[title=\"dog.jpg\"]').click()")
    wait_for_best(browser, "dog")
    click(browser, "#none")
    wait_for_count(browser, "#results .none", 1)
    enter(browser, "#others", "a dog, a cat")
    wait_for_best(browser, "none of these")

    enter(browser, "#scores", "cosines")

    wait(
      browser,
      "/^-?\\d\\.\\d{3}$/.test(document.querySelector('#results .score').textContent)"
    )

    enter(browser, "#scores", "alone")
    wait(browser, "document.querySelector('#results .score').textContent.endsWith(' %')")
    wait_for_count(browser, "#results .none", 0)
    enter(browser, "#scores", "shares")
    wait_for_count(browser, "#results .none", 1)

    enter(browser, "#template", "")
    enter(browser, "#own-template", "a car")
    wait(browser, "document.querySelector('#fault').textContent.includes('{label}')")
    before = evaluate(browser, "document.querySelector('#results').textContent")
    enter(browser, "#own-template", "a dog and a {label}")
    wait(browser, "document.querySelector('#fault').hidden")
    wait(browser, "document.querySelector('#results').textContent !== #{inspect(before)}")

    evaluate(browser, "window.old = true")
    before = names(browser)
    open(browser, evaluate(browser, "location.href"))

    wait(
      browser,
      "window.old === undefined && document.querySelectorAll('#results li').length === 9"
    )

    assert names(browser) == before

    assert evaluate(browser, "document.querySelector('#own-template').value") ==
             "a dog and a {label}"

    assert evaluate(browser, "document.querySelector('#picture').alt") == "dog.jpg"
    in_order!(context)
  end

  test "a picture comes by dropping, pasting and the camera", %{browser: browser} = context do
    hand_over(
      browser,
      "DragEvent",
      "drop",
      "dataTransfer",
      "/pictures/" <> in_strip(browser, "rocket.png")
    )

    wait_for_best(browser, "rocket")

    hand_over(
      browser,
      "ClipboardEvent",
      "paste",
      "clipboardData",
      "/pictures/" <> in_strip(browser, "guitar.png")
    )

    wait_for_best(browser, "guitar")

    click(browser, "#photograph")

    wait(
      browser,
      "document.querySelector('#camera').open && document.querySelector('#video').videoWidth > 0"
    )

    click(browser, "#take")
    wait(browser, "document.querySelector('#picture').alt === 'photograph.jpg'")
    wait(browser, "document.querySelector('#video').srcObject === null")
    in_order!(context)
  end

  test "what is not a picture is said, and the picture before stays", %{
    browser: browser,
    tmp_dir: dir
  } do
    before = names(browser)
    file = Path.join(dir, "words.png")
    File.write!(file, "no picture")
    choose(browser, "#file", [file])
    wait(browser, "document.querySelector('#fault').textContent.startsWith('words.png: ')")
    assert names(browser) == before
    # The browser itself tells of the status.
    assert [refusal] = said(browser)
    assert refusal =~ "422"
  end

  # Formats that the model reads and a browser does not.
  test "a picture that the browser cannot show is classified all the same", %{browser: browser} do
    choose(browser, "#file", [Path.expand("test/fixtures/pictures/lzw.tif")])

    wait(
      browser,
      "document.querySelector('#blank').textContent === 'The browser cannot show lzw.tif.'"
    )

    assert evaluate(browser, "document.querySelector('#picture').hidden")
    wait(browser, "document.querySelector('#fault').hidden")
    choose(browser, "#file", [Path.expand("priv/samples/dog.jpg")])

    wait(
      browser,
      "document.querySelector('#picture').naturalWidth > 0 && !document.querySelector('#picture').hidden"
    )
  end

  test "the strip is searched by words and by the picture", %{browser: browser} = context do
    wait_for_count(browser, "#thumbs button", 10)
    enter(browser, "#search", "a photo of an umbrella")
    wait(browser, "document.querySelector('#thumbs button').title === 'umbrella.png'")
    click(browser, "#thumbs button")
    wait_for_best(browser, "umbrella")
    wait(browser, "document.querySelector('#thumbs [aria-current]').title === 'umbrella.png'")

    choose(browser, "#file", [Path.expand("priv/samples/cat.png")])
    wait_for_best(browser, "cat")
    click(browser, "#alike")
    wait(browser, "document.querySelector('#thumbs button').title === 'cat.png'")
    wait(browser, "document.querySelectorAll('#thumbs button')[1].title === 'again/cat.png'")
    assert evaluate(browser, "document.querySelector('#search').value") == ""
    click(browser, "#alike")
    wait_for_count(browser, "#thumbs .score", 0)

    wait(
      browser,
      "[...document.querySelectorAll('#thumbs img')].every((one) => one.complete && one.naturalWidth > 0)"
    )

    in_order!(context)
  end

  test "everything is reached by keyboard, has a name, and fits", %{browser: browser} = context do
    # Tab goes through the page once.
    reached =
      for _ <- 1..60 do
        press(browser, "Tab", 9)

        evaluate(
          browser,
          "document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''"
        )
      end

    for name <-
          ~w(choose photograph label template none search alike) ++
            ["Remove dog", "Change dog", "Show dog.jpg"],
        do: assert(name in reached, name)

    nodes = command(browser, "Accessibility.getFullAXTree")["nodes"]

    for %{"role" => %{"value" => role}} = node <- nodes,
        role in ~w(button textbox searchbox combobox switch image list img),
        not node["ignored"],
        node["name"]["value"] in [nil, ""],
        role != "list",
        do: flunk("a #{role} has no name: #{inspect(node)}")

    for width <- [360, 768, 1440], scheme <- ~w(light dark) do
      resize(browser, width, 900, scheme: scheme)
      assert evaluate(browser, "document.documentElement.scrollWidth <= innerWidth"), "#{width}"
      assert contrast(browser) >= 4.5
    end

    in_order!(context)
  end

  # The lowest contrast of text with what is behind it, as WCAG 2 computes it.
  defp contrast(browser) do
    evaluate(browser, """
    (() => {
      const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
      const light = (colour) => channels(colour).slice(0, 3)
        .map((one) => one / 255)
        .map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
        .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
      const behind = (element) => {
        const colour = getComputedStyle(element).backgroundColor;
        return (channels(colour)[3] ?? 1) === 0 ? behind(element.parentElement) : colour;
      };
      const texts = [...document.querySelectorAll('h1, h2, p, button, label, .name, .score, dt, dd, input:not([type=checkbox]), select')]
        .filter((one) => one.checkVisibility() && !one.disabled && !one.closest('.unseen'));
      return Math.min(...texts.map((one) => {
        const [a, b] = [light(getComputedStyle(one).color), light(behind(one))];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      }));
    })()
    """)
  end

  test "a server that is gone is said", %{browser: browser, server: server} do
    Demo.Server.stop(server)
    enter(browser, "#label", "a hat")
    wait(browser, "document.querySelector('#fault').textContent.includes('mix zero_shot.demo')")
  end
end
