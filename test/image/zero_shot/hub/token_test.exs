defmodule Image.ZeroShot.Hub.TokenTest do
  # Looks at every process that loads a model, and at the whole log.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Hub, Serving}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.{Client, Directory, Model}
  alias Image.ZeroShot.Test.HubSite

  @moduletag :tmp_dir

  @name "acme/emoji-clip"
  @canary "hf_canary_c4n4ry"

  setup %{tmp_dir: dir} do
    %{opts: [hub_cache: Path.join(dir, "hub"), token: @canary, offline: false]}
  end

  defp model_opts(site, opts, dir) do
    more = [
      repo: @name,
      hub_endpoint: site.url,
      device: :cpu,
      cache_dir: Path.join(dir, "encoders")
    ]

    opts = Keyword.merge(opts, more)
    on_exit(fn -> ZeroShot.unload(opts) end)
    opts
  end

  # Everything a user could see of a call.
  defp shown(function) do
    log = capture_log(fn -> send(self(), {:result, function.()}) end)
    assert_received {:result, result}
    log <> inspect(result, structs: false, limit: :infinity, printable_limit: :infinity)
  end

  test "the token goes only to the hub and stays out of every state", %{opts: opts, tmp_dir: dir} do
    site = HubSite.start!()
    opts = model_opts(site, opts, dir)

    shown =
      shown(fn ->
        :ok = ZeroShot.load(opts)
        {server, entry} = Directory.lookup({:model, opts |> Options.model!() |> Model.key()})

        {entry, ZeroShot.info(opts), :sys.get_state(server), :sys.get_status(server),
         :sys.get_state(Serving.Supervisor)}
      end)

    assert shown =~ @name
    refute shown =~ "canary"

    {hub, content} = Enum.split_with(HubSite.requests(site), &(&1.port_of == :hub))
    assert Enum.all?(hub, &(&1.head =~ "Bearer #{@canary}"))
    assert content != []
    refute Enum.any?(content, &(&1.head =~ "canary"))
  end

  test "the token is in no error, whatever the hub answers", %{opts: opts} do
    for status <- [301, 401, 403, 404, 410] do
      answer = {status, [{"x-error-message", "bad #{@canary}"}], @canary}
      site = HubSite.start!(intercept: fn _, _ -> answer end)
      opts = [hub_endpoint: site.url] ++ opts
      shown = shown(fn -> {Hub.fetch(@name, opts), Hub.cached(@name, opts)} end)
      assert shown =~ "error"
      refute shown =~ "canary"
    end
  end

  test "an invalid token is not shown either", %{opts: opts} do
    opts = Keyword.put(opts, :token, "hf_canary\r\nx-header: y")
    assert {:error, %Error{reason: :invalid_option, message: message}} = Hub.fetch(@name, opts)
    refute message =~ "canary"
  end

  test "the token is not in what the native library raises", %{opts: opts} do
    # A process of another node: a native function cannot send to it.
    elsewhere = :erlang.binary_to_term(<<131, 88, 100, 3::16, "a@b", 1::32, 0::32, 1::32>>)
    assert is_pid(elsewhere)
    shown = shown(fn -> Hub.fetch(@name, [progress: elsewhere] ++ opts) end)
    assert shown =~ "invalid_argument"
    refute shown =~ "canary"
  end

  defmodule Crash do
    @behaviour Serving.Runner

    @impl true
    def key(opts), do: opts.crash

    @impl true
    def open(opts), do: exit({:no_model, inspect(opts)})

    @impl true
    def encode(_model, _tag, _pixels, _prompts), do: :ok

    @impl true
    def parts(_model, _tag, _pixels, _prompts), do: :ok

    @impl true
    def close(_model), do: :ok
  end

  test "the token is not in the report of a crash while a model is loaded", %{opts: opts} do
    opts = [repo: @name] |> Keyword.merge(opts) |> Options.model!()
    opts = Map.merge(opts, %{runner: Crash, crash: make_ref()})
    log = capture_log(fn -> assert {:error, _} = Client.load(opts) end)
    assert log =~ "no_model" and log =~ @name
    refute log =~ "canary"
  end
end
