defmodule Image.ZeroShot.Test.FreshVM do
  @moduledoc false

  # A VM of its own for a check of memory, of threads or of flags: what the tests beside it do is
  # not in its figures, and it ends with the process that started it.

  # On a busy machine a VM may take long to start.
  @patience 60_000

  @doc """
  Calls a function in a VM that has the application started. `flags` are those of `erl`.
  """
  def call({module, function, arguments}, flags \\ [], timeout \\ 120_000) do
    # Elixir warns where the locale is not UTF-8.
    flags = charlists(["+fnu" | flags] ++ paths())

    {:ok, peer, _node} =
      :peer.start_link(%{connection: :standard_io, args: flags, wait_boot: @patience})

    try do
      {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:logger], @patience)
      # Prompts that are cut are warned of.
      :ok = :peer.call(peer, Logger, :configure, [[level: :error]], @patience)

      {:ok, _} =
        :peer.call(peer, :application, :ensure_all_started, [:image_zero_shot], @patience)

      :peer.call(peer, module, function, arguments, timeout)
    after
      :peer.stop(peer)
    end
  end

  @doc """
  A figure of `/proc/self/status`: kilobytes, or a number of threads.
  """
  def status(name) do
    [_, figure] = Regex.run(~r/^#{name}:\s+(\d+)/m, File.read!("/proc/self/status"))
    String.to_integer(figure)
  end

  # The last one named comes first in the path; protocols that are consolidated have to be found
  # before those that are not.
  defp paths, do: :code.get_path() |> Enum.reverse() |> Enum.flat_map(&["-pa", &1])
  defp charlists(strings), do: Enum.map(strings, &to_charlist/1)
end
