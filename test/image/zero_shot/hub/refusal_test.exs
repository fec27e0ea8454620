defmodule Image.ZeroShot.Hub.RefusalTest do
  # Every failure has its own reason and a message with the way out.
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Error, Hub}
  alias Image.ZeroShot.Test.HubSite

  @moduletag :tmp_dir

  @name "acme/emoji-clip"

  setup %{tmp_dir: dir} do
    cache = Path.join(dir, "hub")
    %{cache: cache, opts: [hub_cache: cache, token: false, offline: false]}
  end

  defp fault(name \\ @name, opts) do
    assert {:error, %Error{} = error} = Hub.fetch(name, opts)
    {error.reason, Exception.message(error)}
  end

  defp refusing(status, code, opts) do
    site = HubSite.start!(intercept: fn _, _ -> HubSite.refused(status, code) end)
    fault([hub_endpoint: site.url] ++ opts)
  end

  test "a refusal and a missing repository or revision are different errors", %{opts: opts} do
    assert {:unauthorized, message} = refusing(401, "-", opts)
    assert message =~ "HF_TOKEN"
    assert {:gated, message} = refusing(403, "GatedRepo", opts)
    assert message =~ "/acme/emoji-clip" and message =~ "licence"
    assert {:forbidden, _} = refusing(403, "-", opts)

    opts = [hub_endpoint: HubSite.start!().url] ++ opts
    assert {:repo_not_found, message} = fault("acme/nothing", opts)
    assert message =~ "acme/nothing" and message =~ "HF_TOKEN"
    assert {:revision_not_found, message} = fault([revision: "v9"] ++ opts)
    assert message =~ ~s("v9") and message =~ ~s("main")
  end

  test "a missing file is an error that names it", %{opts: opts} do
    site =
      HubSite.start!(
        intercept: fn request, answer ->
          if request.path =~ "model.safetensors",
            do: HubSite.refused(404, "EntryNotFound"),
            else: answer
        end
      )

    assert {:file_not_found, message} = fault([hub_endpoint: site.url] ++ opts)
    assert message =~ "model.safetensors"
  end

  test "a web page instead of a hub is an error", %{opts: opts} do
    site = HubSite.start!(intercept: fn _, _ -> {200, [], "<html>Log in</html>"} end)
    assert {:not_a_hub, message} = fault([hub_endpoint: site.url] ++ opts)
    assert message =~ "HF_ENDPOINT"
  end

  test "content that does not match its hash stays out of the cache", %{opts: opts, cache: cache} do
    site =
      HubSite.start!(
        intercept: fn
          %{port_of: :content}, {200, headers, body} ->
            {200, headers, :binary.replace(body, <<0>>, <<1>>)}

          _, answer ->
            answer
        end
      )

    assert {:hash_mismatch, _} = fault([hub_endpoint: site.url] ++ opts)
    assert Hub.cached(@name, opts) == {:ok, nil}
    assert Path.wildcard(Path.join(cache, "**/model.safetensors")) == []
  end

  test "a path or an address instead of a name is an error that says how to give it", %{
    opts: opts
  } do
    for name <- [
          "/srv/models/clip",
          "./clip",
          "../clip",
          "~/clip",
          "a/b/c",
          ~S(C:\clip),
          "C:/clip"
        ] do
      assert {:invalid_name, message} = fault(name, opts)
      assert message =~ "a directory on this machine is given as {:local, #{inspect(name)}}"
    end

    for name <- [
          "https://huggingface.co/openai/clip-vit-base-patch32",
          "huggingface.co/openai/clip-vit-base-patch32",
          "hf.co/openai/clip",
          "file:///srv/models/clip"
        ] do
      assert {:invalid_name, message} = fault(name, opts)
      assert message =~ ~s("openai/clip-vit-base-patch32") and message =~ "{:local, directory}"
    end

    assert {:offline, message} = fault("embedded", [offline: true] ++ opts)
    assert message =~ "is given as repo: :embedded"

    assert {:invalid_name, message} = fault("https://me:c4n4ry@hub.test/org/name", opts)
    refute message =~ "c4n4ry"

    # The name is that of a directory on this machine.
    opts = Keyword.put(opts, :offline, true)
    assert {:offline, message} = fault("test/support", opts)
    assert message =~ ~s(given as {:local, "test/support"})
    assert {:offline, message} = fault("test/nothing", opts)
    refute message =~ ":local"
  end

  test "hostile names are refused before anything is sent", %{opts: opts} do
    site = HubSite.start!()
    opts = [hub_endpoint: site.url] ++ opts
    long = String.duplicate("a", 300)

    for name <- ["../x", "/etc/passwd", "a/b/c", "a\\b", "a\0b", "a/..", "org/naïve", long] do
      assert {:invalid_name, _} = fault(name, opts)
    end

    for revision <- ["..", "/etc", "a\\b", "a\0b", "-x", long] do
      assert {:invalid_name, _} = fault([revision: revision] ++ opts)
    end

    assert HubSite.requests(site) == []
  end
end
