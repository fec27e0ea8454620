defmodule Image.ZeroShot.Test.Cluster do
  @moduledoc false

  # Other nodes for tests, on the loopback interface alone. They are driven over their standard
  # input, so that a test can cut the connection that the servings use and still reach the node.

  alias Image.ZeroShot.Serving.{Handle, Server}
  alias Image.ZeroShot.Test.{Runner, Wait}

  @loopback ~c"127.0.0.1"
  # On a busy machine a node may take long to start.
  @patience 60_000

  @doc """
  For `setup_all`: a node beside this one, for all tests of a module.
  """
  def peer do
    if distribute(), do: ExUnit.Callbacks.on_exit(&undistribute/0)
    peer = start()
    ExUnit.Callbacks.on_exit(fn -> stop(peer) end)
    {:ok, peer: peer}
  end

  @doc """
  Makes this VM a node, unless it is one. Returns whether it was made one.
  """
  def distribute do
    if Node.alive?() do
      false
    else
      # A container may have neither a name service nor an epmd.
      {_, 0} = System.cmd(epmd(), ["-daemon"], env: [{"ERL_EPMD_ADDRESS", "127.0.0.1"}])
      Application.put_env(:kernel, :inet_dist_use_interface, {127, 0, 0, 1})
      {:ok, _} = :net_kernel.start([:"#{unique("zs_test")}@127.0.0.1", :longnames])
      Node.set_cookie(:"#{Base.encode16(:rand.bytes(16))}")
      true
    end
  end

  def undistribute do
    :ok = :net_kernel.stop()
    Application.delete_env(:kernel, :inet_dist_use_interface)
  end

  defp epmd do
    System.find_executable("epmd") ||
      hd(Path.wildcard("#{:code.root_dir()}/erts-*/bin/epmd"))
  end

  @doc """
  Starts a node that has this library running.
  """
  def start do
    {:ok, control, node} =
      :peer.start(%{
        name: unique("zs_peer"),
        host: @loopback,
        longnames: true,
        connection: :standard_io,
        wait_boot: @patience,
        args: arguments()
      })

    os_pid = List.to_string(:peer.call(control, :os, :getpid, [], @patience))

    {:ok, _} =
      :peer.call(control, :application, :ensure_all_started, [:image_zero_shot], @patience)

    true = Node.connect(node)
    %{control: control, node: node, os_pid: os_pid}
  end

  @doc """
  Ends a node, in whatever state a test has left it.
  """
  def stop(peer) do
    signal(peer, "-KILL")
    if Process.alive?(peer.control), do: :peer.stop(peer.control)
    :ok
  catch
    :exit, _already_ended -> :ok
  end

  def signal(peer, signal),
    do: System.cmd("kill", [signal, peer.os_pid], stderr_to_stdout: true)

  @doc """
  Starts a serving with a name on another node, with the stand-in in place of a model.
  """
  def serve(peer, name, more \\ []) do
    opts = Runner.opts([open: :ok, serving: name] ++ more)
    {:ok, server} = :peer.call(peer.control, __MODULE__, :serve_here, [name, opts], @patience)
    server
  end

  @doc false
  def serve_here(name, opts) do
    asker = self()

    # Whoever starts a serving is linked to it, and a remote call ends.
    keeper =
      spawn(fn ->
        Process.group_leader(self(), Process.whereis(:init))
        {:ok, server} = Server.start_link({:name, name}, opts)
        {:ok, _info} = Handle.await(server)
        send(asker, {self(), server})
        Process.sleep(:infinity)
      end)

    receive do
      {^keeper, server} -> {:ok, server}
    after
      @patience -> :error
    end
  end

  @doc """
  Starts a serving with a name and a real model on another node, and waits until it is loaded.
  """
  def serve_model(peer, opts) do
    :ok = :peer.call(peer.control, __MODULE__, :serve_model_here, [opts], @patience)
    # The node may not have told yet.
    Wait.eventually(fn -> match?({:ok, _}, Image.ZeroShot.info(serving: opts[:name])) end)
    :ok
  end

  @doc false
  def serve_model_here(opts) do
    asker = self()

    spawn(fn ->
      Process.group_leader(self(), Process.whereis(:init))
      {:ok, _} = Supervisor.start_link([{Image.ZeroShot.Serving, opts}], strategy: :one_for_one)
      send(asker, {:loaded, Image.ZeroShot.load(serving: opts[:name])})
      Process.sleep(:infinity)
    end)

    receive do
      {:loaded, result} -> result
    after
      @patience -> :error
    end
  end

  defp unique(prefix), do: :"#{prefix}_#{System.pid()}_#{System.unique_integer([:positive])}"

  defp arguments do
    paths = :code.get_path() |> Enum.reverse() |> Enum.flat_map(&["-pa", &1])

    # Else a node that loses one connection gives up others, to keep what `:global` knows whole.
    flags =
      ~w(+fnu -kernel prevent_overlapping_partitions false -connect_all false) ++
        ["-setcookie", Atom.to_string(Node.get_cookie())] ++
        ~w(-kernel inet_dist_use_interface {127,0,0,1} logger_level emergency)

    Enum.map(flags ++ paths, &to_charlist/1)
  end
end
